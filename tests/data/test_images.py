import io

import cv2
import numpy as np
import pytest
from PIL import Image

from whytransfer.core.errors import InputError
from whytransfer.data.images import image_size, is_image, read_image, unreadable


def encoded(image, form, mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(image).convert(mode).save(file, form, **options)
    return file.getvalue()


@pytest.fixture
def put(tmp_path):
    def write(name, data):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


class TestWhatSimplyWorks:
    def test_photograph_as_jpeg_is_what_pil_reads(self, put, photographs):
        path = put("a.jpg", encoded(photographs["chelsea"], "JPEG", quality=90))
        with Image.open(path) as image:
            theirs = np.asarray(image.convert("RGB")).astype(int)
        assert np.abs(read_image(path) - theirs).max() <= 3
        assert image_size(path) == (300, 451)

    def test_png_named_jpg_keeps_every_pixel(self, put, noise):
        path = put("really_a_png.jpg", encoded(noise, "PNG"))
        assert np.array_equal(read_image(path), noise)
        assert image_size(path) == (40, 60)

    def test_grey_jpeg_gets_three_equal_channels(self, put, photographs):
        path = put("grey.jpg", encoded(photographs["rocket"], "JPEG", "L"))
        image = read_image(path)
        assert image.shape == photographs["rocket"].shape
        assert (image[..., 0] == image[..., 1]).all() and (image[..., 1] == image[..., 2]).all()

    def test_cmyk_jpeg_has_the_colours_of_the_original(self, put, photographs):
        original = photographs["coffee"]
        path = put("cmyk.jpg", encoded(original, "JPEG", "CMYK", quality=95))
        with Image.open(path) as image:
            assert image.mode == "CMYK"
        assert np.abs(read_image(path).astype(int) - original).mean() < 4

    @pytest.mark.parametrize("mode", ["P", "RGBA", "LA", "1"])
    def test_other_kinds_of_png(self, put, photographs, mode):
        original = photographs["chelsea"][:100, :100]
        path = put("a.png", encoded(original, "PNG", mode))
        with Image.open(path) as image:
            theirs = np.asarray(image.convert("RGB"))
        assert np.abs(read_image(path).astype(int) - theirs).max() <= 1

    def test_sixteen_bits_become_eight(self, tmp_path, noise):
        path = tmp_path / "deep.png"
        cv2.imwrite(str(path), noise[..., ::-1].astype(np.uint16) * 257)
        assert np.array_equal(read_image(path), noise)

    def test_pillow_reads_what_opencv_can_not(self, put, noise):
        path = put("a.jpg", encoded(noise, "ICO", sizes=[(60, 40)]))
        assert read_image(path).shape == (40, 60, 3)

    def test_exif_orientation_is_ignored(self, put, photographs):
        original = photographs["rocket"]
        exif = Image.Exif()
        exif[0x0112] = 6
        path = put("turned.jpg", encoded(original, "JPEG", exif=exif))
        assert read_image(path).shape == original.shape
        assert image_size(path) == original.shape[:2]


class TestWhatIsRefused:
    @pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
    def test_truncated_jpeg(self, put, photographs, share):
        data = encoded(photographs["astronaut"], "JPEG")
        path = put("cut.jpg", data[: int(len(data) * share)])
        with pytest.raises(InputError, match=r"cut\.jpg: can't be decoded.*whole image.*replace"):
            read_image(path)

    def test_truncated_png(self, put, photographs):
        data = encoded(photographs["astronaut"], "PNG")
        with pytest.raises(InputError, match=r"cut\.png: can't be decoded"):
            read_image(put("cut.png", data[: len(data) // 2]))

    def test_empty_file(self, put):
        path = put("empty.jpg", b"")
        for read in (read_image, image_size):
            with pytest.raises(InputError, match=r"empty\.jpg: the file is empty \(0 bytes\)"):
                read(path)

    def test_text_named_jpg(self, put):
        path = put("page.jpg", b"<html>not found</html>")
        for read in (read_image, image_size):
            with pytest.raises(InputError, match=r"page\.jpg: can't be decoded") as caught:
                read(path)
            assert str(caught.value).count("page.jpg") == 1

    def test_missing_file_and_folder(self, tmp_path):
        for read in (read_image, image_size):
            with pytest.raises(InputError, match=r"none\.jpg: no such file"):
                read(tmp_path / "none.jpg")
            with pytest.raises(InputError, match="can't be"):
                read(tmp_path)


def test_unreadable_names_the_bad_ones_in_order(put, noise):
    good = put("good.png", encoded(noise, "PNG"))
    empty, text = put("empty.jpg", b""), put("text.jpg", b"text")
    found = list(unreadable([empty, good, text, good]))
    assert [error.where for error in found] == [str(empty), str(text)]


def test_names_of_images():
    assert is_image("a.JPEG") and is_image("b.png")
    assert not is_image("Thumbs.db") and not is_image("jpg")
