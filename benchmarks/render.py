"""How fast does the world render? Images per second of one core, and its share of writing JPEGs.

    python benchmarks/render.py --json

There is no peer: the figure is a floor that the demo's time rests on (500 images/s at 64 px).
"""

import statistics

import cv2
from _interleaved import compare, report

from whytransfer.data.world import crowds, things

NUM_IMAGES = 200


def main() -> None:
    images = [things.render(things.Config(), 0, index).image for index in range(NUM_IMAGES)]
    times = compare(
        {
            "things": lambda: [things.render(things.Config(), 0, i) for i in range(NUM_IMAGES)],
            "crowds": lambda: [crowds.render(crowds.Config(), 0, i) for i in range(NUM_IMAGES)],
            "encode": lambda: [cv2.imencode(".jpg", image) for image in images],
        },
        rounds=7,
    )
    rates = {name: round(NUM_IMAGES / statistics.median(t)) for name, t in times.items()}
    report({"images_per_second": rates, "rounds": 7})


if __name__ == "__main__":
    main()
