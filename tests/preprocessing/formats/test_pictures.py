"""Pictures: colours are channels, palettes are labels, and what is ambiguous is refused with one clear line."""

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from configs.dataset import DatasetDescription
from configs.errors import InputError
from preprocessing.dataset.raw import find_cases, open_dataset
from preprocessing.dataset.validation import examine
from preprocessing.formats.images import read_header, read_image, read_labels, write_labels
from preprocessing.geometry.affine import Geometry
from preprocessing.geometry.orientation import find_turn
from preprocessing.pages.drawn_image import drawn_image

RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
LABELS = np.random.default_rng(1).integers(0, 4, (6, 8), np.uint8)
COLOUR = DatasetDescription(name="x", channels=("R", "G", "B"), labels={"background": 0, "a": 1})


def saved(**how: object) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(RGB).save(path, **how)


def with_alpha(value: int) -> NDArray[np.uint8]:
    return np.dstack([RGB, np.full(RGB.shape[:2], value, np.uint8)])


def tiff(array: NDArray, **how: object) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, array, **how)


def palette(**how: object) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        picture = Image.fromarray(LABELS)
        picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
        picture.save(path, **how)

    return write


def raw_png(depth: int, colours: int, row: bytes) -> Callable[[Path], None]:
    """A PNG file of 8 x 6 equal rows, in forms that Pillow does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">2I5B", 8, 6, depth, colours, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(6 * (b"\0" + row))) + chunk(b"IEND", b"")
    return lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


SAME_COLOURS: dict[str, Callable[[Path], None]] = {
    "a.png": saved(),
    "a.bmp": saved(),
    "opaque.png": lambda path: Image.fromarray(with_alpha(255)).save(path),
    "a.tif": tiff(RGB, photometric="rgb"),
    "planar.tif": tiff(np.moveaxis(RGB, 2, 0), photometric="rgb", planarconfig="separate"),
    "opaque.tif": tiff(with_alpha(255), photometric="rgb", extrasamples=["unassalpha"]),
    "lzw.tif": saved(compression="tiff_lzw"),
}


@pytest.mark.parametrize("name", SAME_COLOURS)
def test_colours_are_channels_in_the_order_of_the_file(tmp_path: Path, name: str) -> None:
    SAME_COLOURS[name](tmp_path / name)
    image, geometry = read_image([tmp_path / name])
    assert np.array_equal(image, np.moveaxis(RGB, 2, 0)[:, None])
    assert read_header(tmp_path / name) == (3, geometry) and geometry.spacing == (1, 1, 1)
    assert geometry.direction[1, 1] < 0  # rows run downwards, so that figures with Y upwards show the picture upright


def test_figures_show_pictures_upright(tmp_path: Path) -> None:
    """Figures have Y upwards: the first row of the file is the last of the turned image."""
    saved()(tmp_path / "a.png")
    image, geometry = read_image([tmp_path / "a.png"])
    assert np.array_equal(drawn_image(find_turn(geometry, "canonical").apply(image), COLOUR)[0, ::-1], RGB)
    assert not np.array_equal(drawn_image(image, COLOUR)[0, ::-1], RGB)


def test_colours_of_16_bits_and_of_stacks_are_read_whole(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "deep.tif", RGB.astype(np.uint16) * 257, photometric="rgb")
    assert np.array_equal(read_image([tmp_path / "deep.tif"])[0][:, 0], 257.0 * np.moveaxis(RGB, 2, 0))
    stack = np.stack([RGB, RGB[::-1]])
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="rgb", metadata={"axes": "ZYXS"})
    with pytest.raises(InputError, match="its spacing is not known"):
        read_image([tmp_path / "stack.tif"])
    (tmp_path / "stack.json").write_text('{"spacing": [3, 1, 1]}')
    assert np.array_equal(read_image([tmp_path / "stack.tif"])[0], np.moveaxis(stack, 3, 0))


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_jpeg_is_read_as_its_library_does(tmp_path: Path, name: str) -> None:
    saved(quality=90, **({"compression": "jpeg"} if name == "a.tif" else {}))(tmp_path / name)
    decoded = np.asarray(Image.open(tmp_path / name))
    assert np.array_equal(read_image([tmp_path / name])[0][:, 0], np.moveaxis(decoded, 2, 0))


SAME_LABELS: dict[str, Callable[[Path], None]] = {
    "grey.png": lambda path: Image.fromarray(LABELS).save(path),
    "palette.png": palette(),
    "two_bits.png": palette(bits=2),
    "palette.bmp": palette(),
    "palette.tif": palette(),
    "flat.tif": tiff(LABELS, photometric="minisblack"),
}


@pytest.mark.parametrize("name", SAME_LABELS)
def test_the_number_in_a_palette_is_the_label(tmp_path: Path, name: str) -> None:
    SAME_LABELS[name](tmp_path / name)
    assert np.array_equal(read_labels(tmp_path / name)[0], LABELS[None])


def test_values_of_few_bits_are_those_that_are_stored(tmp_path: Path) -> None:
    raw_png(4, 0, bytes([0x01, 0x23, 0, 0x0F]))(tmp_path / "a.png")
    assert read_labels(tmp_path / "a.png")[0][0, 0].tolist() == [0, 1, 2, 3, 0, 0, 0, 15]
    Image.fromarray(LABELS > 1).save(tmp_path / "bits.png")
    Image.fromarray(LABELS > 1).save(tmp_path / "bits.tif")
    for name in ("bits.png", "bits.tif"):
        assert np.array_equal(read_labels(tmp_path / name)[0][0], LABELS > 1)
    deep = LABELS.astype(np.uint16) * 9000
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert np.array_equal(read_labels(tmp_path / "deep.png")[0][0], deep)


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(path, exif=exif)


NOT_IMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "transparent.png": (lambda path: Image.fromarray(with_alpha(9)).save(path), "48 of its 48 pixels are transparent"),
    "transparent.tif": (tiff(with_alpha(9), photometric="rgb", extrasamples=["unassalpha"]), "pixels are transparent"),
    "cmyk.jpg": (lambda path: Image.fromarray(RGB).convert("CMYK").save(path), "its colours are CMYK. Convert it to RGB"),
    "cmyk.tif": (lambda path: Image.fromarray(RGB).convert("CMYK").save(path), "are not red, green and blue"),
    "luminance.tif": (lambda path: Image.fromarray(RGB).convert("YCbCr").save(path), "are not red, green and blue"),
    "fax.tif": (lambda path: Image.fromarray(LABELS > 1).save(path, compression="group4"), "Save it without compression or"),
    "turned.jpg": (turned, "its EXIF orientation is 6"),
    "turned.png": (turned, "its EXIF orientation is 6"),
    "turned.tif": (tiff(RGB, photometric="rgb", extratags=[(274, "H", 1, 6, True)]), "its EXIF orientation is 6"),
    "key.png": (saved(transparency=(0, 0, 0)), "one of its colours is declared transparent"),
    "animated.png": (saved(save_all=True, append_images=[Image.fromarray(RGB[::-1])]), "it holds 2 pictures"),
    "two.jpg": (saved(format="MPO", save_all=True, append_images=[Image.fromarray(RGB[::-1])]), "it holds 2 pictures"),
    "deep.png": (raw_png(16, 2, bytes(48)), "it has 16 bits for each colour, of which 8 would be lost. Save it as TIFF"),
    "palette.png": (palette(), "numbers of a palette's colours"),
    "palette.tif": (palette(), "numbers of a palette's colours"),
    "gif.png": (palette(format="GIF"), "cannot be read"),
    "empty.jpg": (lambda path: path.write_bytes(b""), "cannot be read"),
}


@pytest.mark.parametrize("name", NOT_IMAGES)
def test_what_is_no_image_is_told_in_one_line(tmp_path: Path, name: str) -> None:
    write, message = NOT_IMAGES[name]
    write(tmp_path / name)
    with pytest.raises(InputError) as caught:
        read_image([tmp_path / name])
    (fault,) = caught.value.faults
    assert fault.where == str(tmp_path / name) and message in str(fault) and "\n" not in str(fault)


@pytest.mark.parametrize("name", ["a.jpg", "jpeg.png", "jpeg.tif"])
def test_labels_are_not_compressed_with_loss(tmp_path: Path, name: str) -> None:
    Image.fromarray(LABELS).save(tmp_path / name, **({"compression": "jpeg"} if name.endswith("tif") else {"format": "JPEG"}))
    with pytest.raises(InputError, match=r"must not be compressed as JPEG.*Save the labels as PNG"):
        read_labels(tmp_path / name)


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif"])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 0.25, 0.25)])
def test_labels_come_back_on_the_grid_of_their_picture(tmp_path: Path, ending: str, spacing: tuple[float, float, float]) -> None:
    image = tmp_path / f"images/a_0000{ending}"
    image.parent.mkdir()
    SAME_COLOURS[f"a{ending}"](image)
    if spacing != (1, 1, 1):
        (tmp_path / "images/a.json").write_text(json.dumps({"spacing": spacing}))
    geometry = read_image([image])[1]
    write_labels(tmp_path / f"out/a{ending}", LABELS[None], geometry, like=image)
    labels, grid = read_labels(tmp_path / f"out/a{ending}")
    assert np.array_equal(labels, LABELS[None]) and grid == geometry and grid.spacing == spacing
    assert (tmp_path / "out/a.json").exists() == (spacing != (1, 1, 1))
    (tmp_path / "out/a.json").write_text('{"spacing": [1, 7, 7]}')  # of an earlier picture
    write_labels(tmp_path / f"out/a{ending}", LABELS[None], geometry, like=image)
    assert read_labels(tmp_path / f"out/a{ending}")[1] == geometry


def test_what_a_picture_cannot_hold_is_refused(tmp_path: Path) -> None:
    flat, deep = Geometry.from_spacing((1, 6, 8), (1, 1, 1)), Geometry.from_spacing((2, 6, 8), (1, 1, 1))
    large = np.full((1, 6, 8), 300)
    write_labels(tmp_path / "a.png", large, flat)
    assert np.array_equal(read_labels(tmp_path / "a.png")[0], large)
    for path, labels, geometry, message in (
        ("a.bmp", large, flat, "up to 255"),
        ("b.png", large * 300, flat, "up to 65535"),
        ("b.png", -large, flat, "up to 65535"),
        ("b.png", np.zeros((2, 6, 8), int), deep, "one slice, not 2"),
        ("b.jpg", large, flat, "must not be compressed as JPEG"),
    ):
        with pytest.raises(InputError, match=message):
            write_labels(tmp_path / path, labels, geometry)
    assert not list(tmp_path.glob("b.*"))


def test_large_pictures_are_no_bombs_and_bombs_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    saved()(tmp_path / "a.png")
    assert read_image([tmp_path / "a.png"])[0].shape == (3, 1, 6, 8) and Image.MAX_IMAGE_PIXELS == 10
    content = bytearray((tmp_path / "a.png").read_bytes())
    struct.pack_into(">2I", content, 16, 60_000, 60_000)
    struct.pack_into(">I", content, 29, zlib.crc32(content[12:29]))
    (tmp_path / "b.png").write_bytes(content)
    with pytest.raises(InputError, match="its header states the shape"):
        read_image([tmp_path / "b.png"])


def dataset(folder: Path, ending: str, names: tuple[str, ...] = ("R", "G", "B")) -> Path:
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for case in range(2):
        Image.fromarray(np.roll(RGB, case)).save(folder / f"imagesTr/c{case}_0000{ending}")
        Image.fromarray(LABELS // 2).save(folder / f"labelsTr/c{case}.png")
    description = {"channel_names": dict(enumerate(names)), "labels": {"background": 0, "a": 1}, "file_ending": ending}
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


@pytest.mark.parametrize("ending", [".png", ".jpg", ".bmp", ".tif"])
def test_one_picture_holds_all_channels_of_a_case(tmp_path: Path, ending: str) -> None:
    found = open_dataset(dataset(tmp_path / "x", ending))
    assert [len(files.images) for files in found.cases.values()] == [1, 1]
    assert examine(found, lambda case: case.image.shape)[1] == {"c0": (3, 1, 6, 8), "c1": (3, 1, 6, 8)}
    images = tmp_path / "x/imagesTr"
    assert list(find_cases(images, COLOUR)) == ["c0", "c1"]
    assert find_cases(images / f"c0_0000{ending}", COLOUR) == {"c0": (images / f"c0_0000{ending}",)}


def test_grey_pictures_among_colours_are_told(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "x", ".png")
    Image.fromarray(RGB[..., 0]).save(folder / "imagesTr/c1_0000.png")
    with pytest.raises(
        InputError, match=r"`c1`: the image has 1 channels, but .* names 3 \(R, G, B\)\. Convert grey pictures to RGB"
    ):
        examine(open_dataset(folder), lambda case: None)
    two = dataset(tmp_path / "two", ".tif", ("a", "b"))
    with pytest.raises(InputError, match=r"channel 1 \(b\) is missing"):
        open_dataset(two)


def test_previews_beside_volumes_are_no_cases(tmp_path: Path) -> None:
    one = COLOUR.model_copy(update={"channels": ("CT",)})
    for name in ("a_0000.nii.gz", "a_preview.png", "figure.jpg"):
        (tmp_path / name).touch()
    assert list(find_cases(tmp_path, one)) == ["a"]
    (tmp_path / "a_0000.nii.gz").unlink()
    assert list(find_cases(tmp_path, one)) == ["a_preview", "figure"]
