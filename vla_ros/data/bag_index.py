"""What a bag of episodes holds, read once: small messages whole, of images only where they lie."""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vla_ros.data.bag import bag_files
from vla_ros.data.encoded_image import decode_image, image_size
from vla_ros.data.frames import Frames, LazyFrames
from vla_ros.data.image_encoding import decode_h264, h264_decoder, image_pixels, is_key_frame
from vla_ros.data.mcap import Channel, McapFile
from vla_ros.data.message_types import MessageTypes
from vla_ros.errors import DataError
from vla_ros.types import Image

_IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "foxglove_msgs/msg/CompressedVideo")
_RAW, _COMPRESSED, _VIDEO = _IMAGES
_CHUNKS = 4
"""Decompressed chunks that are kept while frames are read."""


@dataclass(frozen=True)
class Place:
    """Where one message lies: its own stamp [ns], file, record, byte range in the record's content."""

    stamp: int
    file: int
    position: int
    offset: int
    length: int


@dataclass
class ImageStream:
    """The images of one topic."""

    type_name: str
    places: list[Place] = field(default_factory=list)


class BagIndex:
    """One bag.  `small` has (topic, stamp of recording, message) of what `wanted` asks for."""

    def __init__(self, path: Path, wanted: Callable[[str], bool]) -> None:
        """Read the bag.  Raises `DataError` when it is none, not closed, damaged, empty or not in CDR."""
        self.path, self.types = Path(path), MessageTypes()
        self.small: list[tuple[str, int, Any]] = []
        self.images: dict[str, ImageStream] = {}
        self.topics: set[str] = set()
        self._files = [McapFile(file) for file in bag_files(self.path)]
        self._chunks: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        for number, file in enumerate(self._files):
            for channel, stamp, raw in file.messages():
                if not file.closed:
                    break
                self._take(number, file, channel, stamp, raw, wanted)
            if not file.closed:
                raise DataError(
                    f"{file.path} was not closed: its recorder was killed or the file is cut off; "
                    "`vla-ros bag repair` saves what is whole."
                )
        if not self.topics:
            raise DataError(f"{self.path} holds no messages.")

    def frames(self, topic: str, stamps: Sequence[int], where: str) -> Frames:
        """The images with these stamps [ns], read when asked for.  Raises `DataError` when one is missing."""
        stream = self.images[topic]
        by_stamp = {place.stamp: index for index, place in enumerate(stream.places)}
        indices = []
        for step, stamp in enumerate(stamps):
            if stamp not in by_stamp:
                raise DataError(
                    f"{where}, step {step}: topic {topic} has no image with the stamp {stamp} ns."
                )
            indices.append(by_stamp[stamp])
        if stream.type_name == _COMPRESSED:
            return BagFrames(self, stream, indices, where)
        reader = _VideoReader(self, stream) if stream.type_name == _VIDEO else None

        def load(step: int) -> Image:
            try:
                if reader is not None:
                    return reader.image(indices[step])
                return image_pixels(self.message(stream, indices[step]))
            except DataError as error:
                raise DataError(f"{where}, step {step}: {error}") from error

        if not indices:
            return LazyFrames(0, (0, 0), load)
        if reader is not None:
            size = load(0).shape[:2]
            return LazyFrames(len(indices), (int(size[0]), int(size[1])), load)
        first = self.message(stream, indices[0])
        return LazyFrames(len(indices), (int(first.height), int(first.width)), load)

    def message(self, stream: ImageStream, index: int) -> Any:
        """Read one image message.  Raises `DataError`."""
        place = stream.places[index]
        key = (place.file, place.position)
        if key not in self._chunks:
            while len(self._chunks) >= _CHUNKS:
                self._chunks.popitem(last=False)
            self._chunks[key] = self._files[place.file].content(place.position)
        raw = self._chunks[key][place.offset : place.offset + place.length]
        return self.types.deserialize(raw, stream.type_name)

    def _take(
        self, number: int, file: McapFile, channel: Channel, stamp: int, raw: bytes,
        wanted: Callable[[str], bool],
    ) -> None:  # fmt: skip
        self.topics.add(channel.topic)
        image = channel.type_name in _IMAGES
        if not image and not wanted(channel.topic):
            return
        if channel.encoding != "cdr":
            raise DataError(
                f"{file.path}: topic {channel.topic} is encoded as '{channel.encoding}', not CDR."
            )
        if channel.definition:
            name = self.types.register_definition(channel.type_name, channel.definition)
        else:
            name = self.types.ensure(channel.type_name)
        if not image:
            try:
                self.small.append((channel.topic, stamp, self.types.deserialize(raw, name)))
            except DataError as error:
                raise DataError(f"{file.path}: topic {channel.topic} at {stamp} ns: {error}") from error
            return
        if len(raw) < 12:
            raise DataError(
                f"{file.path}: topic {channel.topic} at {stamp} ns: {len(raw)} bytes are no image."
            )
        # All three types begin with their stamp, behind the four bytes that tell the order of bytes.
        seconds, nanoseconds = struct.unpack_from("<iI" if raw[1] & 1 else ">iI", raw, 4)
        place = Place(seconds * 1_000_000_000 + nanoseconds, number, file.position, file.offset, len(raw))
        self.images.setdefault(channel.topic, ImageStream(name)).places.append(place)


class BagFrames(Frames):
    """Frames of a topic of JPEG or PNG images; bytes as recorded, read from the file one by one."""

    native = True

    def __init__(self, index: BagIndex, stream: ImageStream, indices: Sequence[int], where: str) -> None:
        self._index, self._stream, self._indices, self._where = index, stream, indices, where

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) that the first frame's header states; (0, 0) for none."""
        return (image_size(self.encoded(0)) if self._indices else None) or (0, 0)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._indices)

    def image(self, step: int) -> Image:
        """Decode one frame."""
        return decode_image(self.encoded(step), f"{self._where}, step {step}")

    def encoded(self, step: int) -> bytes:
        """The recorded bytes."""
        return bytes(self._index.message(self._stream, self._indices[step]).data)


class _VideoReader:
    """Frames of an H.264 topic; goes on where it is, or from the key frame before."""

    def __init__(self, index: BagIndex, stream: ImageStream) -> None:
        self._index, self._stream = index, stream
        self._decoder: Any = None
        self._at = -1
        self._shown: Image | None = None

    def image(self, number: int) -> Image:
        if number != self._at or self._shown is None:
            self._go_to(number)
        if self._shown is None:
            raise DataError("the video gave no picture.")
        return self._shown

    def _go_to(self, number: int) -> None:
        start = number
        while start > 0 and start != self._at + 1 and not is_key_frame(self._data(start)):
            start -= 1
        if self._decoder is None or start != self._at + 1:
            self._decoder = h264_decoder()
        self._shown = None
        for at in range(start, number + 1):
            found = decode_h264(self._decoder, self._data(at))
            self._at = at
            if at == number and found:
                self._shown = found[-1].to_ndarray(format="rgb24")

    def _data(self, number: int) -> bytes:
        return bytes(self._index.message(self._stream, number).data)
