"""Files of strangers: nothing leads outside, nothing claims memory that its bytes cannot justify, and every refusal has a reason."""

import os
import re
import struct
import traceback
import warnings
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as Items
from pydicom.uid import JPEG2000Lossless, JPEGLossless, RLELossless

from configs.errors import InputError
from preprocessing.dicom import cli, header, library
from preprocessing.dicom.codestream import stated_size
from preprocessing.dicom.find import FoundSeries, find_series, is_dicom, write_lists
from preprocessing.dicom.series import ListedPlane, SeriesList, case_name
from preprocessing.formats.images import read_image, read_volumes
from tests.preprocessing.dicom.making import SECRETS, affine_of, save, slices, volume, zipped

AFFINE = affine_of((0.7, 0.9, 2.5), np.eye(3), (1, 2, 3))


def content(dataset: FileDataset) -> bytes:
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def entry(name: str, **fields: int) -> Callable[[zipfile.ZipFile], None]:
    def add(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo(name)
        for field, value in fields.items():
            setattr(info, field, value)
        archive.writestr(info, content(slices(volume(), AFFINE)[0]))

    return add


def repeated(archive: zipfile.ZipFile) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        entry("x")(archive)
        entry("x")(archive)


def bomb(archive: zipfile.ZipFile) -> None:
    archive.writestr("bomb", bytes(2**25), zipfile.ZIP_DEFLATED)


ARCHIVES = {
    "parent": (entry("../x"), "the name leads outside of the archive"),
    "parent, in the middle": (entry("a/../../x"), "the name leads outside of the archive"),
    "absolute": (entry("/etc/x"), "the name leads outside of the archive"),
    "drive": (entry("C:/x"), "the name leads outside of the archive"),
    "backslashes": (entry("..\\x"), "the name leads outside of the archive"),
    "no name": (entry("", filename=""), "the entry has no name"),
    "link": (entry("x", external_attr=0o120777 << 16), "the entry is a link"),
    "repeated": (repeated, "several of its entries have the same name, of which one hides the others"),
    "bomb": (bomb, r"the entry claims 33554432 bytes in \d+"),
    "nothing": (lambda archive: archive.writestr("readme.txt", "hello"), "no DICOM file found"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_are_checked(tmp_path: Path, name: str) -> None:
    add, said = ARCHIVES[name]
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        add(archive)
    with pytest.raises(InputError, match=said):
        find_series(tmp_path / "x.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number, dataset in enumerate(slices(volume(), AFFINE)):
            archive.writestr(str(number), content(dataset))
    sound = (tmp_path / "x.zip").read_bytes()
    (tmp_path / "x.zip").write_bytes(sound[:300] + b"\0" * 40 + sound[340:])
    found = find_series(tmp_path / "x.zip")
    assert found.faults and "its part of the ZIP file is damaged" in found.faults[0].problem


def test_what_is_wrong_with_an_archive_names_no_entry(tmp_path: Path) -> None:
    """Hospitals name files after patients, and encrypt what they export: one line tells it, however many entries there are."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for number, dataset in enumerate(slices(volume(), AFFINE)):
            archive.writestr(f"{SECRETS[0]}/{number}", content(dataset))
    sound = (tmp_path / "x.zip").read_bytes()
    (tmp_path / "x.zip").write_bytes(sound.replace(values := volume()[2].tobytes(), bytes(len(values))))
    damaged = find_series(tmp_path / "x.zip").faults
    assert "its part of the ZIP file is damaged (BadZipFile)" in damaged[0].problem
    encrypted = bytearray(sound)
    for place in (found.start() for found in re.finditer(rb"PK\x01\x02", sound)):
        encrypted[place + 8] |= 1
    (tmp_path / "x.zip").write_bytes(encrypted)
    with pytest.raises(InputError, match="6 of its 6 entries cannot be used: the entry is encrypted") as caught:
        find_series(tmp_path / "x.zip")
    assert len(caught.value.faults) == 1
    assert not [secret for secret in SECRETS if secret in "".join(map(str, (*damaged, *caught.value.faults)))]


def test_a_folder_that_cannot_be_read_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(folder: Path, onerror: Callable[[OSError], None]) -> list[tuple[str, list[str], list[str]]]:
        onerror(PermissionError(13, "Permission denied", SECRETS[0]))
        return []

    monkeypatch.setattr("os.walk", unreadable)
    with pytest.raises(InputError, match=r"a folder in it cannot be read \(Permission denied\)") as caught:
        find_series(tmp_path)
    assert SECRETS[0] not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("rest", [b"", bytes(900)], ids=["empty", "zeros"])
def test_a_file_without_content_among_the_images_is_told(tmp_path: Path, rest: bytes) -> None:
    """As an interrupted copy leaves it; where it is the last image, no gap tells that it is missing."""
    save(slices(volume(), AFFINE, "1.2.3")[:5], tmp_path)
    (tmp_path / "IM0005").write_bytes(rest)
    (fault,) = find_series(tmp_path).faults
    assert "it is empty, as a file is that was not copied to its end" in fault.problem


def test_archives_inside_of_the_input_are_told(tmp_path: Path) -> None:
    save(slices(volume(), AFFINE, "1.2.3"), tmp_path / "one")
    zipped(tmp_path / "one", tmp_path / "many" / f"{SECRETS[0]}.ZIP")
    assert is_dicom(tmp_path / "many")
    for path in (tmp_path / "many", zipped(tmp_path / "many", tmp_path / "outer.zip")):
        found = find_series(path)
        assert not found.series and "a ZIP file inside of the input, which is not opened" in found.faults[0].problem
        assert found.places[found.faults[0].where] == f"{SECRETS[0]}.ZIP" and SECRETS[0] not in str(found.faults[0])


def test_names_that_are_not_valid_unicode_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of discs that were written with an older encoding."""
    save(slices(volume(), AFFINE, "1.2.3"), tmp_path / "in", [os.fsdecode(b"M\xfcller/\n%d" % number) for number in range(6)])
    monkeypatch.setattr("sys.argv", ["se_dicom", "list", str(tmp_path / "in")])
    assert cli.main() == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(r"M\udcfcller/\n0")
    ((listed,),) = write_lists(find_series(tmp_path / "in").series, tmp_path).values()
    assert np.array_equal(read_volumes(listed)[0][0], volume())


def found_in(dataset: FileDataset, folder: Path) -> FoundSeries:
    return find_series(save([dataset], folder / "in"))


def test_many_items_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = slices(volume(), AFFINE, "1.2.3")[0]
    dataset.ReferencedImageSequence = Items([Dataset() for _ in range(50)])
    assert found_in(dataset, tmp_path).series
    monkeypatch.setattr(library, "MOST_ITEMS", 40)
    (fault,) = found_in(dataset, tmp_path).faults
    assert "it has more than 40 items" in fault.problem


def test_long_headers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = slices(volume(), AFFINE, "1.2.3")[0]
    dataset.ImageComments = "x" * 3000
    monkeypatch.setattr(header, "MOST_HEADER", 2000)
    (fault,) = found_in(dataset, tmp_path).faults
    assert "file 1 of 1 by name" in str(fault) and "its header has more than 2000 bytes" in fault.problem


def test_deflated_files_are_refused_unread(tmp_path: Path) -> None:
    dataset = slices(volume(), AFFINE)[0]
    dataset.file_meta.TransferSyntaxUID = library.DEFLATED
    (fault,) = found_in(dataset, tmp_path).faults
    assert "it is deflated as a whole, which is not read" in fault.problem


def by_gdcm(values: np.ndarray, compressor: str, path: Path) -> bytes:
    """The compressed frame of an image."""
    import pydicom
    import SimpleITK

    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetFileName(str(path))
    writer.SetUseCompression(True)
    writer.SetCompressor(compressor)
    writer.Execute(SimpleITK.GetImageFromArray(values[None]))
    (frame,) = pydicom.encaps.generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1)
    return bytes(frame)


COMPRESSORS = {"JPEG": JPEGLossless.replace(".57", ".70"), "JPEG2000": JPEG2000Lossless}


@pytest.mark.parametrize("compressor", COMPRESSORS)
def test_compressed_frames_must_have_the_size_of_the_header(tmp_path: Path, compressor: str) -> None:
    values = volume((1, 20, 30))[0]
    frame = by_gdcm(values, compressor, tmp_path / "x")
    assert stated_size(frame) == (20, 30, 1)
    for rows in (20, 19):
        dataset = slices(values[None], AFFINE, "1.2.3")[0]
        dataset.file_meta.TransferSyntaxUID = COMPRESSORS[compressor]
        dataset.PixelData, dataset.Rows = encapsulate([frame]), rows
        dataset["PixelData"].VR = "OB"
        found = find_series(save([dataset], tmp_path / "in"))
        ((listed,),) = write_lists(found.series, tmp_path).values()
        if rows == 20:
            assert np.array_equal(read_volumes(listed)[0][0, 0], values)
        else:
            with pytest.raises(InputError, match="the compressed frames state another size or number than the header"):
                read_image([listed])


@pytest.mark.parametrize(
    ("frame", "size"),
    [
        (b"", None),
        (b"\xff\xd8", None),
        (b"\xff\xd8" + b"\xff" * 40, None),
        (b"\xff\xd8\xff\xc4\x00\x02" * 20, None),
        (b"\xff\xd8\xff\xff\xc0\x00\x11\x08\xff\xff\xff\xfe\x03" + bytes(9), (65535, 65534, 3)),
        (b"\xff\x4f\xff\x51" + bytes(10), None),
        (b"\xff\x4f\xff\x51" + struct.pack(">HH8IH", 41, 0, 9, 8, 1, 2, 0, 0, 0, 0, 3), (6, 8, 3)),
    ],
)
def test_sizes_in_compressed_frames(frame: bytes, size: tuple[int, int, int] | None) -> None:
    assert stated_size(frame) == size


def test_a_frame_of_few_bytes_cannot_be_large(tmp_path: Path) -> None:
    dataset = slices(volume((1, 9, 7)), AFFINE, "1.2.3")[0]
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.Rows = dataset.Columns = 4000
    (fault,) = found_in(dataset, tmp_path).faults
    assert "fewer pixels than" in fault.problem


def test_a_list_of_other_images_is_refused(tmp_path: Path) -> None:
    """As where files change between the search and the reading."""
    save(slices(volume(), AFFINE, "1.2.3"), tmp_path / "in")
    case, listed = case_name("1.2.3"), find_series(tmp_path / "in").series[case_name("1.2.3")].listed
    for changed in (
        listed.model_copy(update={"rows": 65535, "columns": 65535}),
        listed.model_copy(update={"planes": (ListedPlane(file="IM0000", frame=7),)}),
        listed.model_copy(update={"planes": (ListedPlane(file="IM0000", slope=1e30),)}),
    ):
        changed.write(tmp_path / f"{case}.series")
        with pytest.raises(InputError, match=rf"series `{case}`: its images cannot be read"):
            read_image([tmp_path / f"{case}.series"])
    assert SeriesList.read(tmp_path / f"{case}.series")


def test_no_traceback_names_a_file_or_quotes_a_value(tmp_path: Path) -> None:
    """Logs keep tracebacks, and names of files and values may be a patient's."""
    made = slices(volume((4, 9, 7)), AFFINE, "1.2.3")
    names = [f"{SECRETS[0]}/{number}" for number in range(4)]
    save(made, tmp_path / "in", names)
    listed = find_series(tmp_path / "in").series[case_name("1.2.3")].listed
    listed.write(tmp_path / "x.series")
    damaged = deepcopy(made[1])
    damaged.NumberOfFrames = "0000000000000001"
    for replacement in (None, content(damaged).replace(b"0000000000000001", SECRETS[0].encode())):
        path = tmp_path / "in" / names[1]
        path.unlink() if replacement is None else path.write_bytes(replacement)
        with pytest.raises(InputError) as caught:
            read_volumes(tmp_path / "x.series")
        told = "".join(traceback.format_exception(caught.value))
        assert "its images cannot be read" in told or "it cannot be read" in told
        assert not [secret for secret in SECRETS if secret in told]


def test_a_failure_in_one_thread_does_not_hold_up_another(tmp_path: Path) -> None:
    """Whoever keeps the error of a series keeps its half-read frames too."""
    save(slices(volume(), AFFINE, "1.2.3"), tmp_path / "in")
    listed = find_series(tmp_path / "in").series[case_name("1.2.3")].listed
    listed.model_copy(update={"planes": (ListedPlane(file="IM0000", slope=1e30),)}).write(tmp_path / "x.series")
    with ThreadPoolExecutor(1) as pool:
        error = pool.submit(read_image, [tmp_path / "x.series"]).exception()
        assert isinstance(error, InputError)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: find_series(tmp_path / "in")).result(timeout=20).series


def test_an_unreadable_file_does_not_hide_the_others(tmp_path: Path) -> None:
    save(slices(volume(), AFFINE, "1.2.3"), tmp_path / "a")
    dataset = slices(volume(), AFFINE)[0]
    dataset.NumberOfFrames = 2_000_000
    save([dataset], tmp_path, ["broken"])
    found = find_series(tmp_path)
    assert list(found.series) == [case_name("1.2.3")]
    assert "se_dicom list shows its name" in str(found.faults[0]) and "broken" in found.places.values()


@pytest.mark.parametrize("length", [140, 400, 900, 1300])
def test_a_truncated_file_is_a_fault_wherever_it_ends(tmp_path: Path, length: int) -> None:
    """Its slice is the last one, so that no gap tells that it is missing."""
    save(slices(volume((6, 9, 7)), AFFINE, "1.2.3"), tmp_path)
    last = (tmp_path / "IM0005").read_bytes()
    (tmp_path / "IM0005").write_bytes(last[:length])
    assert length < len(last) and find_series(tmp_path).faults
