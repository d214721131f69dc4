"""Small data sets in their publishers' layouts: the table, files and archives."""

import csv
import hashlib
import json
import zipfile

CAPTIONS = json.dumps(["A red chair, with arms.", "chair"])
COLUMNS = ("sha256", "file_identifier", "aesthetic_score", "captions")


def sha(data):
    return hashlib.sha256(data).hexdigest()


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def write_table(root, name, objects):
    """The published table: identifier -> bytes whose hash is published."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / name).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([sha(data), identifier, 5.25, CAPTIONS] for identifier, data in objects.items())


def pack(path, objects):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in objects.items():
            archive.writestr(name, data)


def by_id(assets):
    return {asset.metadata["file_identifier"]: asset for asset in assets}
