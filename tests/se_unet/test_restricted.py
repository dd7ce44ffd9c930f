"""Files of torch.save: nothing runs, nothing claims more than it holds, whatever is wrong is one fault that names the file."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from configs.errors import InputError
from se_unet.weights import load_restricted


class Exploit:
    """An object that runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch exploited",)


def saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def with_pickle(pickled: bytes) -> bytes:
    """A sound archive with another pickle in it."""
    return rewritten({"data.pkl": pickled})


def rewritten(changes: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    with zipfile.ZipFile(io.BytesIO(saved({"a": torch.zeros(1000)}))) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, changes.get(name.split("/")[-1], content))
    return packed.getvalue()


def refused(path: Path, content: bytes, message: str = "cannot be read") -> None:
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load_restricted(path, "Do something else")
    assert caught.value.faults[0].where == str(path) and "\n" not in str(caught.value)


def test_tensors_and_containers_come_back(tmp_path: Path) -> None:
    content = {"a": torch.arange(3), "b": [1, 2.5, "x", None], "c": {"d": (True,)}}
    (tmp_path / "x.pt").write_bytes(saved(content))
    loaded = load_restricted(tmp_path / "x.pt", "")
    assert torch.equal(loaded.pop("a"), content.pop("a")) and loaded == content


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK",
        b"\x80\x04N.",
        with_pickle(b""),
        with_pickle(b"\x80\x02U\xff"),
        with_pickle(b"\x80\x02X\x04\x00\x00\x00\xff\xff\xff\xff."),  # no UTF-8
        with_pickle(b"\x80\x02}}]s."),  # a key that cannot be one
        with_pickle(b"\x80\x02a."),  # nothing to append to
        with_pickle(b"\x80\x02h\x05."),  # nothing remembered
        with_pickle(pickle.dumps(Exploit(), protocol=2)),
        pickle.dumps(Exploit()),
        b"before the archive" + rewritten({}),  # which PyTorch would read as the format before 1.6
    ],
)
def test_whatever_is_wrong_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.chdir(tmp_path)
    refused(tmp_path / "x.pt", content)
    assert not (tmp_path / "exploited").exists()


def test_claims_are_held_against_the_file(tmp_path: Path) -> None:
    refused(tmp_path / "x.pt", rewritten({"0": bytes(10**7)}, zipfile.ZIP_DEFLATED), "the archive is compressed")
    lying = bytearray(rewritten({}))
    at = lying.index(b"PK\x01\x02")
    lying[at + 20 : at + 28] = (2**31).to_bytes(4, "little") * 2
    refused(tmp_path / "x.pt", bytes(lying), "state 21")


def test_the_format_before_1_6_is_taken_where_it_is_asked_for(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert torch.equal(load_restricted(tmp_path / "old.pt", "", before_1_6=True)["a"], torch.ones(2))
    with pytest.raises(InputError, match=r"since version 1\.6"):
        load_restricted(tmp_path / "old.pt", "")
