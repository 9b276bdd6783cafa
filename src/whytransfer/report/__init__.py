"""Layer 4: one self-contained page from finished results; never imports torch.

write(result, Path("report.html"))  # the page
headline(result)                    # its first screen in plain text
"""

from whytransfer.report.page import write
from whytransfer.report.verdict import headline

__all__ = ["headline", "write"]
