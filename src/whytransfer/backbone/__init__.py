"""Backbones: built, described by levels, saved and loaded with the preprocessing they need."""
