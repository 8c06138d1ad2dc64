"""Fashion-MNIST's four idx files → train.parquet and test.parquet with a PNG and a label in each row.

Usage: prepare.py FOLDER_OF_THE_IDX_FILES FOLDER_OF_THE_PARQUET_FILES [ROWS_OF_EACH]

Needs `pip install pyarrow`. The idx files are at https://github.com/zalandoresearch/fashion-mnist.
"""

import gzip
import struct
import sys
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

NAMES = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(pixels, height, width):
    """Eight bits of grey."""
    rows = b"".join(b"\0" + pixels[at : at + width] for at in range(0, height * width, width))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def read(path, dimensions):
    content = gzip.decompress(path.read_bytes())
    sizes = struct.unpack(f">{dimensions}I", content[4 : 4 + 4 * dimensions])
    return sizes, content[4 + 4 * dimensions :]


def main():
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    most = int(sys.argv[3]) if len(sys.argv) > 3 else None
    target.mkdir(parents=True, exist_ok=True)
    for part, prefix in (("train", "train"), ("test", "t10k")):
        (count, height, width), pixels = read(source / f"{prefix}-images-idx3-ubyte.gz", 3)
        _, labels = read(source / f"{prefix}-labels-idx1-ubyte.gz", 1)
        rows = range(min(count, most or count))
        size = height * width
        table = pa.table(
            {
                "id": pa.array(rows, pa.int32()),
                "image": pa.array([png(pixels[row * size : (row + 1) * size], height, width) for row in rows], pa.binary()),
                "label": pa.array([NAMES[labels[row]] for row in rows]),
            }
        )
        # A picture is compressed already.
        pq.write_table(table, target / f"{part}.parquet", compression="none", use_dictionary=["label"], row_group_size=8192)
        print(f"{target / part}.parquet: {len(rows)} rows")


if __name__ == "__main__":
    main()
