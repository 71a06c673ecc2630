"""Fields that a format does not have: passed over everywhere, but refused where the operator wants clients to be told."""

from __future__ import annotations

from typing import Any

import msgspec

from rerankd.errors import UnknownField

_names = msgspec.json.Decoder(dict[str, msgspec.Raw])


def refuse_unknown(body: bytes, request: Any) -> None:
    """Raises `UnknownField` for the first field of `body` that the msgspec type `request` does not have.

    `body` is one that has been read as that type.
    """
    known = {field.encode_name for field in msgspec.structs.fields(request)}
    for name in _names.decode(body):
        if name not in known:
            raise UnknownField(f"`{name[:100]}` is no field of this format.", param=name[:100])
