"""Complete studies, as YAML files: ``whytransfer study run NAME``."""
