"""The wire format of DNS, as far as a resolver needs it that answers names of its own and hands on the rest. RFC 1035, 6891.

    header   id u16 · flags u16 · questions u16 · answers u16 · authorities u16 · additionals u16
    question name · type u16 · class u16             a name: (length u8, label)…, 0
    record   name · type u16 · class u16 · ttl u32 · length u16 · data
    flags    QR 8000 · opcode 7800 · AA 0400 · TC 0200 · RD 0100 · RA 0080 · AD 0020 · CD 0010 · rcode 000f

Names are bytes without the last dot, in lower case. Whatever comes is a container's, or a stranger's: nothing here raises but Malformed.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

A, PTR, AAAA, OPT = 1, 12, 28, 41
IN: Final = 1
FORMERR, SERVFAIL, NOTIMP, REFUSED = 1, 2, 4, 5
TTL_S: Final = 600  # moby's
UDP_SIZE: Final = 512  # of an answer to who says nothing of EDNS
OUR_UDP_SIZE: Final = 1232  # dnsflagday.net/2020
HEADER_SIZE: Final = 12
MAX_NAME: Final = 255

_HEADER: Final = struct.Struct("!6H")
_PAIR: Final = struct.Struct("!HH")
_QR, _OPCODE, _TC, _RD, _RA, _CD = 0x8000, 0x7800, 0x0200, 0x0100, 0x0080, 0x0010
_RECORD: Final = struct.Struct("!HHHIH")  # its name is a pointer to the question's
_POINTER: Final = 0xC000 | HEADER_SIZE
_ADDRESS: Final = {A: _RECORD.pack(_POINTER, A, IN, TTL_S, 4), AAAA: _RECORD.pack(_POINTER, AAAA, IN, TTL_S, 16)}
_LENGTH: Final = {A: 4, AAAA: 16}
_OPT: Final = b"\0" + struct.pack("!HHIH", OPT, OUR_UDP_SIZE, 0, 0)


class Question(NamedTuple):
    """A query with one question. ``raw``: all of it; ``end``: where the question ends in it."""

    raw: bytes
    id: int
    flags: int
    name: bytes
    type: int
    class_: int
    end: int
    udp_size: int  # what the asker takes in one datagram
    edns: bool

    @property
    def text(self) -> bytes:
        """The question's own bytes."""
        return self.raw[HEADER_SIZE : self.end]


class Malformed(Exception):
    """``answer``: what its sender is told; b"" for what is no query at all."""

    def __init__(self, answer: bytes = b"") -> None:
        super().__init__("no DNS query")
        self.answer = answer


def read(data: bytes) -> Question:
    if len(data) < HEADER_SIZE:
        raise Malformed
    number, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(data)
    if flags & _QR:
        raise Malformed  # an answer: who answers answers goes on for ever
    if flags & _OPCODE:
        raise Malformed(_short(number, flags, NOTIMP))
    if questions != 1 or answers or authorities:
        raise Malformed(_short(number, flags, FORMERR))
    labels, at, end = [], HEADER_SIZE, len(data)
    while at < end and (size := data[at]):
        if size > 63:  # a pointer has nothing to point at in a question
            raise Malformed(_short(number, flags, FORMERR))
        labels.append(data[at + 1 : at + 1 + size])
        at += 1 + size
    if at + 5 > end or at + 1 - HEADER_SIZE > MAX_NAME:
        raise Malformed(_short(number, flags, FORMERR))
    kind, class_ = _PAIR.unpack_from(data, at + 1)
    at += 5
    udp_size, edns = UDP_SIZE, False
    if additionals and at + 11 <= end and data[at] == 0 and _PAIR.unpack_from(data, at + 1)[0] == OPT:
        udp_size, edns = max(UDP_SIZE, _PAIR.unpack_from(data, at + 1)[1]), True
    return Question(data, number, flags, b".".join(labels).lower(), kind, class_, at, udp_size, edns)


def addresses(question: Question, found: Sequence[bytes], limit: int) -> bytes:
    """What the question asks of ``found``: its A or AAAA records, which may be none. ``limit``: of the answer; with more than it holds, it
    has some and says so (TC)."""
    head, length = _ADDRESS[question.type], _LENGTH[question.type]
    found = [address for address in found if len(address) == length]
    room, flags = max(0, limit - question.end - len(_OPT)) // (len(head) + length), 0
    if len(found) > room:
        found, flags = found[:room], _TC
    return _answer(question, flags, len(found), b"".join(head + address for address in found))


def pointer(question: Question, name: bytes) -> bytes:
    """A PTR record. ``name``: with labels that fit (a longer one is answered by an empty answer)."""
    data = encode(name)
    if data is None:
        return empty(question)
    return _answer(question, 0, 1, _RECORD.pack(_POINTER, PTR, IN, TTL_S, len(data)) + data)


def empty(question: Question) -> bytes:
    """The name exists, and has nothing of this type."""
    return _answer(question, 0, 0, b"")


def failure(question: Question, rcode: int) -> bytes:
    return _answer(question, rcode, 0, b"")


def truncated(question: Question) -> bytes:
    """Ask again by TCP."""
    return _answer(question, _TC, 0, b"")


def encode(name: bytes) -> bytes | None:
    """None when it is no name: a label without letters or with too many, or too long as a whole."""
    labels = name.split(b".")
    if any(not 0 < len(label) < 64 for label in labels):
        return None
    data = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    return data if len(data) <= MAX_NAME else None


def reverse(name: bytes) -> bytes | None:
    """The 4 bytes that 5.1.18.172.in-addr.arpa asks about, or the 16 that 32 digits before ip6.arpa do."""
    parts = name.split(b".")
    if len(parts) == 34 and parts[32:] == [b"ip6", b"arpa"]:
        digits = b"".join(reversed(parts[:32]))
        return bytes.fromhex(digits.decode()) if all(len(part) == 1 and part in b"0123456789abcdef" for part in parts[:32]) else None
    if len(parts) != 6 or parts[4:] != [b"in-addr", b"arpa"]:
        return None
    if not all(part.isdigit() and len(part) <= 3 and int(part) < 256 for part in parts[:4]):
        return None
    return bytes(int(part) for part in reversed(parts[:4]))


def answers(reply: bytes, asked: bytes, number: int) -> bool:
    """Whether ``reply`` is an answer to the question ``asked`` under that id. Servers may write the name in letters of their own."""
    if len(reply) < HEADER_SIZE + len(asked):
        return False
    given, flags, questions, *_ = _HEADER.unpack_from(reply)
    same = reply[HEADER_SIZE : HEADER_SIZE + len(asked)].lower() == asked.lower()
    return given == number and bool(flags & _QR) and questions == 1 and same


def rcode(reply: bytes) -> int:
    return reply[3] & 15


def with_id(message: bytes, number: int) -> bytes:
    return number.to_bytes(2, "big") + message[2:]


def _answer(question: Question, flags: int, count: int, tail: bytes) -> bytes:
    """``flags``: beside QR, RA and what the question had."""
    flags |= _QR | _RA | question.flags & (_RD | _CD)
    header = _HEADER.pack(question.id, flags, 1, count, 0, int(question.edns))
    return header + question.text + tail + (_OPT if question.edns else b"")


def _short(number: int, flags: int, rcode: int) -> bytes:
    """Without the question, which was not understood."""
    return _HEADER.pack(number, _QR | flags & (_OPCODE | _RD) | rcode, 0, 0, 0, 0)
