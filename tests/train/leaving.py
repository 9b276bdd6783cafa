"""What torchrun runs for test_data_parallel.py: two processes, of which the first leaves the other.

Arguments: a folder and how it leaves. The other one writes into ``1`` what it is told.
"""

import os
import sys
import time
from pathlib import Path

from whytransfer.core.processes import here
from whytransfer.train.launch import connect
from whytransfer.train.neighbours import neighbours


def main(folder: Path, how: str) -> None:
    processes = here()
    connect("cpu", processes)
    near = neighbours(processes)
    near.meet()
    if processes.leads:
        if how == "fails":
            try:
                with processes.together():
                    raise ValueError("on purpose")
            except ValueError:
                time.sleep(3)  # it goes on, as a study does with its next step
        elif "child" in how and os.fork() == 0:
            time.sleep(3)
        os._exit(0)
    if how == "ends long before":
        time.sleep(1)
    try:
        near.meet()
    except RuntimeError as error:
        (folder / "1").write_text(str(error))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
