"""The training view of a labelled image in plain loops, as mmsegmentation's pipeline reads."""

import colorsys
import math


def converted(value, alpha=1.0, beta=0.0):
    """Its ``convert``: multiplied, added to, cut off, the fraction dropped."""
    return int(min(max(value * alpha + beta, 0.0), 255.0))


def distorted(pixel, brightness, contrast, contrast_first, saturation, hue):
    """One RGB pixel; ``None`` leaves a step out. Hue is in OpenCV's units of two degrees."""
    if brightness is not None:
        pixel = [converted(v, beta=brightness) for v in pixel]
    if contrast is not None and contrast_first:
        pixel = [converted(v, alpha=contrast) for v in pixel]
    if saturation is not None:
        h, s, v = to_hsv(pixel)
        pixel = to_rgb(h, converted(s, alpha=saturation), v)
    if hue is not None:
        h, s, v = to_hsv(pixel)
        pixel = to_rgb((h + hue) % 180, s, v)
    if contrast is not None and not contrast_first:
        pixel = [converted(v, alpha=contrast) for v in pixel]
    return pixel


def to_hsv(pixel):
    h, s, v = colorsys.rgb_to_hsv(*(value / 255 for value in pixel))
    return round(h * 180) % 180, round(s * 255), round(v * 255)


def to_rgb(h, s, v):
    return [round(255 * value) for value in colorsys.hsv_to_rgb(h / 180, s / 255, v / 255)]


def chosen_crop(labels, crop, share, places, ignored=255):
    """Returns (top, left) of the crop that is taken: of the drawn places the first one in which
    there are several classes, none with ``share`` of the labelled pixels or more; else the last.
    """
    height, width = len(labels), len(labels[0])
    for number, (y, x) in enumerate(places):
        top = math.floor(y * (max(height - crop[0], 0) + 1))
        left = math.floor(x * (max(width - crop[1], 0) + 1))
        counts = {}
        for row in labels[top : top + crop[0]]:
            for label in row[left : left + crop[1]]:
                if label != ignored:
                    counts[int(label)] = counts.get(int(label), 0) + 1
        mixed = len(counts) > 1 and max(counts.values()) / sum(counts.values()) < share
        if share >= 1 or mixed or number == len(places) - 1:
            return top, left
    raise AssertionError("no place was drawn")
