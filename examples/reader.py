#!/usr/bin/env python3
"""Reads a coffre repository in a directory, without coffre: written from docs/format.md, whose sections it names.

    python examples/reader.py --repo DIR --password-file FILE list
    python examples/reader.py --repo DIR --password-file FILE restore SNAPSHOT TARGET

With --fingerprint, as the recovery kit has it, a slot that leads to another repository is passed over.
SNAPSHOT is an id, a name below snapshots/, or `latest`; TARGET must be empty or not there yet. Needs Python 3.11 and
examples/requirements.txt.

The index is not used: chunks are found by the sealed directories of the packs themselves. Every signature, commitment,
tag and chunk id is checked. What is damaged is named and left out, and the exit status is 1.

Restored are files (holes, hardlinks), directories, symbolic links, named pipes and streams (as files), with modes and
times, and with owners if run by root. Sockets, devices and extended attributes are not.
"""

import argparse
import base64
import calendar
import hashlib
import hmac
import io
import json
import os
import re
import stat
import sys
import time
from collections import OrderedDict
from dataclasses import dataclass

import cbor2
import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

READER = bytes(8)  # who wrote it, where a writer's id would stand
HEADER_LEN, TRAILER_LEN = 1204, 1284
WORK_MAX, WORKS_MAX = 18, 1 << 23  # the scrypt work factor of a key slot, and the sum of 2^factor
FRAME_PLAIN_MAX, DEPTH_MAX, PATH_MAX = 16 << 20, 16, 65536
NODE_MAX, NODE_ITEMS_MAX, NODE_PATHS_MAX, NODE_PARTS_MAX = 8 << 20, 65536, 16 << 20, 1 << 19  # section 17
PACK_MAX, DIRECTORY_MAX = 768 << 20, 48 << 20
WINDOW_MAX, RECIPE_MAX, RECIPE_CHUNKS_MAX, RECIPE_DEPTH_MAX = 8 << 20, 1 << 20, 1024, 4
NEEDED_CHUNKS_MAX, NEEDED_PARTS_MAX, NEEDED_PLAIN_MAX = 4096, 1 << 19, 512 << 20
OBJECT_MAX = {"config": 16 << 20, "keyring": 16 << 20, "keys": 64 << 10, "snapshots": 4 << 20, "cleanup": 64 << 20,
              "retention": 16 << 20}
FRAMES_KEPT = 12  # decoded frames kept in memory
FILE, DIRECTORY, SYMLINK, FIFO, STREAM = 0, 1, 2, 3, 7
LEFT_OUT = {4: "a socket", 5: "a character device", 6: "a block device"}


class Damaged(Exception):
    """Something in the repository is not what the format says; the message names the object."""


def require(condition, what, why):
    if not condition:
        raise Damaged(f"{what}: {why}")


def say(text):
    print(f"reader: {text}", file=sys.stderr)


def shown(text):
    """A name or text from the repository, made safe for a terminal."""
    text = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text
    return "".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in text)


# ---- Section 1: numbers, tables, records ----


class Cursor:
    """Takes values from the front of `data`, never past its end."""

    def __init__(self, data, what):
        self.data, self.at, self.what = data, 0, what

    def take(self, n):
        require(n <= len(self.data) - self.at, self.what, "it is cut short")
        self.at += n
        return self.data[self.at - n : self.at]

    def u8(self):
        return self.take(1)[0]

    def u32(self):
        return int.from_bytes(self.take(4), "little")

    def varint(self):
        value = 0
        for shift in range(0, 70, 7):
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                require(value < 1 << 64, self.what, "a number is too large")
                return value
        raise Damaged(f"{self.what}: a number is too long")

    def mark(self, letter):
        require(self.take(8) == b"coffre" + letter + b"\1", self.what, "its mark is not that of a version 1 object")

    def rest(self):
        return self.take(len(self.data) - self.at)

    def finish(self):
        require(self.at == len(self.data), self.what, "bytes are left over")


class Record:
    """A CBOR map. Bytes behind it and keys never asked for are ignored."""

    def __init__(self, data, what):
        self.what = what
        try:
            self.fields = data if isinstance(data, dict) else cbor2.CBORDecoder(io.BytesIO(data)).decode()
        except Exception as error:  # whatever the library finds wrong
            raise Damaged(f"{what}: not CBOR ({error})") from None
        require(isinstance(self.fields, dict), what, "not a map")

    def get(self, key, kind, *default):
        """Field `key`, of Python's type `kind`; without a default it is required."""
        if key not in self.fields and default:
            return default[0]
        require(key in self.fields, self.what, f"field {key} is missing")
        return checked(self.fields[key], kind, f"{self.what}, field {key}")

    def uint(self, key, *default):
        value = self.get(key, int, *default)
        require(0 <= value < 1 << 64, self.what, f"field {key} is out of range")
        return value

    def fixed(self, key, length):
        """Required bytes of a known length."""
        value = self.get(key, bytes)
        require(len(value) == length, self.what, f"field {key} has the wrong length")
        return value

    def array(self, key, kinds, *default):
        """An array with one item of each kind."""
        value = self.get(key, list, *default)
        require(len(value) == len(kinds), self.what, f"field {key} has the wrong number of items")
        return [checked(item, kind, f"{self.what}, field {key}") for item, kind in zip(value, kinds)]


def checked(value, kind, what):
    require(type(value) is kind, what, f"not of type {kind.__name__}")
    return value


# ---- Sections 3 and 4: derivations, sealed bytes, envelopes ----


def hkdf(key, salt, info, length):
    return HKDF(SHA256(), length, salt, info).derive(key)


def derive(key, salt, label, length=32):
    return hkdf(key, salt, b"coffre/1 " + label.encode(), length)


def committed_key(root, salt, label, commitment, what):
    """Derives a key with a commitment, and compares the commitment before anything is opened."""
    both = derive(root, salt, label, 64)
    require(hmac.compare_digest(both[32:], commitment), what, "it was sealed under another key")
    return AESGCM(both[:32])


def unseal(aead, nonce, sealed, associated, what):
    try:
        return aead.decrypt(nonce, sealed, associated)
    except (InvalidTag, ValueError):
        raise Damaged(f"{what}: changed, or sealed for another place") from None


def open_envelope(data, root, repository, purpose, obj, what):
    cursor = Cursor(data, what)
    salt, commitment = cursor.take(16), cursor.take(32)
    aead = committed_key(root, salt, f"envelope {purpose}", commitment, what)
    padded = Cursor(unseal(aead, bytes(12), cursor.rest(), repository + obj + purpose.encode(), what), what)
    return padded.take(padded.u32())


def authored(opened, letter, repository, obj, before, keys, what):
    """Who wrote what an envelope gave, and the value behind his author block; `keys` has the key of each author."""
    cursor = Cursor(opened, what)
    block, signature, value = cursor.take(9), cursor.take(64), cursor.rest()
    author, algorithm = block[:8], block[8]
    require(author in keys, what, f"it is by writer {author.hex()}, whom the keyring does not have")
    require(algorithm == 1, what, "it is signed in an unknown way")
    signed = b"coffre/1 author " + letter.encode() + repository + obj + block + blake3(before + value).digest()
    try:
        Ed25519PublicKey.from_public_bytes(keys[author]).verify(signature, signed)
    except InvalidSignature:
        raise Damaged(f"{what}: its author did not sign it") from None
    return author, value


# ---- Section 5: key slots ----

AGE_HEADER = re.compile(
    rb"(age-encryption\.org/v1\n-> scrypt ([A-Za-z0-9+/]{22}) ([1-9][0-9]?)\n([A-Za-z0-9+/]{43})\n---)"
    rb" ([A-Za-z0-9+/]{43})\n"
)
AGE_FOR_KEYS = tuple(b"age-encryption.org/v1\n-> " + kind for kind in (b"X25519 ", b"ssh-ed25519 ", b"ssh-rsa "))
SYMBOLS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def passphrase_of(typed):
    """What was typed, or the recovery identity in its one spelling if it is one."""
    prefix = "COFFRE-RECOVERY"
    upper = typed.strip().upper().replace(" ", "-")
    if not upper.startswith(prefix):
        return typed
    symbols = upper[len(prefix) :].replace("-", "").translate(str.maketrans("OIL", "011"))
    if len(symbols) == 36 and set(symbols) <= set(SYMBOLS):
        bits = sum(SYMBOLS.index(symbol) << 5 * (31 - i) for i, symbol in enumerate(symbols[:32]))
        check = blake3(bits.to_bytes(20, "big"), derive_key_context="coffre/1 recovery identity check").digest()
        if symbols[32:] == "".join(SYMBOLS[byte & 31] for byte in check[:4]):
            return "-".join([prefix] + [symbols[i : i + 4] for i in range(0, 36, 4)])
    raise Damaged("the recovery identity is mistyped")


def fingerprint_of(repository, verifying_key):
    """Stands for a repository and the key that checks its signatures, for people to compare."""
    bits = int.from_bytes(blake3(b"coffre/1 fingerprint" + repository + verifying_key).digest()[:10], "big")
    symbols = "".join(SYMBOLS[bits >> 5 * (15 - i) & 31] for i in range(16))
    return "-".join(symbols[i : i + 4] for i in range(0, 16, 4))


def evened_out(fingerprint):
    """A fingerprint as typed, in its one spelling."""
    symbols = fingerprint.upper().replace("-", "").replace(" ", "").translate(str.maketrans("OIL", "011"))
    require(len(symbols) == 16 and set(symbols) <= set(SYMBOLS), "the fingerprint", "it has 16 letters and digits")
    return "-".join(symbols[i : i + 4] for i in range(0, 16, 4))


def open_age(header, body, passphrase, what):
    """Opens an age file whose header matched AGE_HEADER; None if it has another passphrase."""
    salt, wrapped, mac = (base64.b64decode(header[i] + b"=" * (-len(header[i]) % 4)) for i in (2, 4, 5))
    stretched = Scrypt(b"age-encryption.org/v1/scrypt" + salt, 32, 1 << int(header[3]), 8, 1).derive(passphrase)
    try:
        file_key = ChaCha20Poly1305(stretched).decrypt(bytes(12), wrapped, None)
    except InvalidTag:
        return None
    return open_payload(file_key, header[1], mac, body, what)


def open_payload(file_key, header, mac, body, what):
    """What is behind the header of an age file, once that was checked."""
    expected = hmac.digest(hkdf(file_key, b"", b"header", 32), header, "sha256")
    require(hmac.compare_digest(expected, mac), what, "its header was changed")
    aead, rest = ChaCha20Poly1305(hkdf(file_key, body[:16], b"payload", 32)), body[16:]
    rows = [rest[i : i + 65552] for i in range(0, len(rest), 65552)]
    nonces = [i.to_bytes(11, "big") + bytes([i == len(rows) - 1]) for i in range(len(rows))]
    return b"".join(unseal(aead, nonce, row, None, what) for nonce, row in zip(nonces, rows))


# ---- Section 7: X-Wing and HPKE in PSK mode ----


class DomainKey:
    """The secret key of a domain and epoch, with what its dedup secret gives."""

    SUITE = b"HPKE\x64\x7a\x00\x01\x00\x02"
    LABEL = bytes.fromhex("5c2e2f2f5e5c")

    def __init__(self, seed, dedup_secret, domain, epoch):
        expanded = hashlib.shake_256(seed).digest(96)
        self.mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
        self.x25519 = X25519PrivateKey.from_private_bytes(expanded[64:])
        self.public_x = self.x25519.public_key().public_bytes_raw()
        self.public = self.mlkem.public_key().public_bytes_raw() + self.public_x
        self.chunk_id_key = derive(dedup_secret, domain, "chunk id")
        self.index_key = derive(dedup_secret, domain, "index")
        self.psk, self.psk_id = derive(dedup_secret, domain, "session psk"), domain + epoch.to_bytes(4, "little")

    def decapsulate(self, encapsulated):
        shared_m = self.mlkem.decapsulate(encapsulated[:1088])
        shared_x = self.x25519.exchange(X25519PublicKey.from_public_bytes(encapsulated[1088:]))
        return hashlib.sha3_256(shared_m + shared_x + encapsulated[1088:] + self.public_x + self.LABEL).digest()

    def open(self, encapsulated, sealed, info, what):
        """Opens the one message of an HPKE exchange."""

        def extract(salt, label, ikm):
            return hmac.digest(salt, b"HPKE-v1" + self.SUITE + label + ikm, "sha256")

        def expand(label, length):
            labeled = length.to_bytes(2, "big") + b"HPKE-v1" + self.SUITE + label + context
            return HKDFExpand(SHA256(), length, labeled).derive(secret)

        context = b"\1" + extract(b"", b"psk_id_hash", self.psk_id) + extract(b"", b"info_hash", info)
        try:
            secret = extract(self.decapsulate(encapsulated), b"secret", self.psk)
        except ValueError:  # X25519 of a point of small order
            raise Damaged(f"{what}: its session header is no encapsulation") from None
        return unseal(AESGCM(expand(b"key", 32)), expand(b"base_nonce", 12), sealed, b"", f"{what}, session header")


# ---- Section 8: recipes ----


@dataclass
class Recipe:
    """What a chunk is put together from; an item is (number of its chunk, offset, length)."""

    length: int
    depth: int
    chunks: list
    items: list


def read_recipe(data, what):
    require(len(data) <= RECIPE_MAX, what, "the recipe is too long")
    cursor = Cursor(data, what)
    length, depth, count = cursor.varint(), cursor.varint(), cursor.varint()
    require(1 <= length <= WINDOW_MAX and 1 <= depth <= RECIPE_DEPTH_MAX, what, "the recipe is out of range")
    require(1 <= count <= RECIPE_CHUNKS_MAX, what, "the recipe names no chunks, or too many")
    chunks = [cursor.take(16) for _ in range(count)]
    require(len(set(chunks)) == count, what, "the recipe names a chunk twice")
    number = cursor.varint()
    require(1 <= number <= len(data) // 3, what, "the number of its items is out of range")
    columns = [[cursor.varint() for _ in range(number)] for _ in range(3)]
    cursor.finish()
    items, ends, used = [], [0] * count, 0
    for which, zigzag, part in zip(*columns):
        require(which <= used and which < count, what, "the recipe's chunks are not in order of first use")
        used += which == used
        offset = ends[which] + (zigzag >> 1 if zigzag & 1 == 0 else -(zigzag >> 1) - 1)
        require(offset >= 0 and part >= 1 and offset + part <= WINDOW_MAX, what, "a part is out of range")
        ends[which] = offset + part
        items.append((which, offset, part))
    require(used == count, what, "the recipe names a chunk that it does not use")
    require(sum(part for _, _, part in items) == length, what, "its parts do not add up to its window")
    return Recipe(length, depth, chunks, items)


def put_together(recipe, whole, what):
    """What a recipe makes. `whole` gives the plaintext of the chunk of a key."""
    ends, made = [0], bytearray(recipe.length)
    for _, _, part in recipe.items:
        ends.append(ends[-1] + part)
    by_chunk = sorted(zip((which for which, _, _ in recipe.items), ends, recipe.items))
    last, plain = None, b""
    for which, at, (_, offset, part) in by_chunk:
        if which != last:
            last, plain = which, whole(recipe.chunks[which])
        require(offset + part <= len(plain), what, "a part reaches beyond its chunk")
        made[at : at + part] = plain[offset : offset + part]
    return bytes(made)


class Spent:
    """What was spent on one window, through all depths. What a recipe names is taken whole here, so that frames are counted which
    no part needs: their limit is wider for it than that of the format."""

    def __init__(self):
        self.chunks, self.items, self.frames, self.plain = set(), 0, set(), 0
        self.taken = 0  # chunks put together or cut out, the same one counted each time

    def take(self, key, pack, number, what):
        self.taken += 1
        self.chunks.add(key)
        if (pack.id, number) not in self.frames:
            self.frames.add((pack.id, number))
            self.plain += pack.frames[number][2]
        require(len(self.chunks) <= NEEDED_CHUNKS_MAX, what, "it needs too many chunks")
        require(self.plain <= NEEDED_PLAIN_MAX, what, "it needs too many frames")
        require(self.taken <= 4 * NEEDED_CHUNKS_MAX, what, "it needs too much")

    def take_items(self, recipe, what):
        self.items += len(recipe.items)
        require(self.items <= NEEDED_PARTS_MAX, what, "it needs too many parts")


# ---- The repository: sections 2, 6, 8, 9, 11 and 12 ----


@dataclass
class Pack:
    """A pack whose directory was read; a frame is (offset, sealed length, plaintext length, codec)."""

    name: str
    id: bytes
    aead: AESGCM
    chunk_id_key: bytes
    frames: list
    domain: bytes = b""


@dataclass
class Writer:
    """A host with a key of its own, as the keyring knows it."""

    verifying_key: bytes
    name: str
    hosts: list  # that its snapshots may state; any if empty
    granted: set  # domains and epochs that it may write to
    revoked: bool
    group: int | None
    counting: list  # digests of the lists that say which of its snapshots count although it was thrown out


@dataclass
class Snapshot:
    name: str
    id: bytes
    digest: bytes  # SHA-256 of the object
    at: tuple  # domain and epoch
    author: bytes
    record: Record
    root: bytes
    depth: int


def snapshot_name(snapshot_id, prefix="snapshots"):
    """The name of the object of a snapshot, or of one that is named like it (section 2)."""
    second = time.gmtime(int.from_bytes(snapshot_id[:8], "big", signed=True))
    return f"{prefix}/{time.strftime('%Y%m%dT%H%M%SZ', second)}-{snapshot_id[8:].hex()}"


def snapshot_id_of(name):
    """The id in the name of a snapshot, or of what is named like one, without what stands before it."""
    second = calendar.timegm(time.strptime(name[:16], "%Y%m%dT%H%M%SZ"))
    return second.to_bytes(8, "big", signed=True) + bytes.fromhex(name[17:])


class CleanupList:
    """A list of cleaning up (section 13)."""

    def __init__(self, record, counter, digest):
        def items(key, length):
            value = record.get(key, bytes, b"")
            require(len(value) % length == 0, record.what, f"field {key} is cut off")
            return [value[i : i + length] for i in range(0, len(value), length)]

        self.name, self.counter, self.digest = record.what, counter, digest
        self.made, self.packs, self.given_up = record.get(0, int, 0), items(1, 16), items(2, 16)
        self.accounted = {item[:16]: item[16:] for item in items(3, 48)}
        self.gone = [checked(name, str, record.what) for name in record.get(4, list, [])]
        self.is_deleting = record.uint(5, 0) == 1
        self.before = record.fixed(6, 32) if 6 in record.fields else None
        self.first = record.uint(7) if 7 in record.fields else None
        self.counting = {(item[:16], item[16:]) for item in items(8, 48)}
        self.is_of_damage = record.uint(9, 0) == 1  # for writers; what is whole in these packs is read
        self.removed = {item[16:48]: item for item in items(10, 80)}  # by the SHA-256 of its object
        self.is_complete = record.uint(11, 0) == 1  # for cleaners; a reader adds up all lists that are there


class RetentionRecord:
    """A record of retention (section 13): what it says of snapshots that are forgotten. Who is held matters to who removes."""

    def __init__(self, record, digest):
        def items(key, length):
            value = record.get(key, bytes, b"")
            require(len(value) % length == 0, record.what, f"field {key} is cut off")
            return [value[i : i + length] for i in range(0, len(value), length)]

        self.name, self.digest, self.before = record.what, digest, items(3, 32)
        self.is_complete = record.uint(4, 0) == 1
        self.says = {}  # snapshot → SHA-256 of the object that is forgotten; None: it is brought back
        for item in record.get(5, list, []):
            fields = Record(dict(enumerate(checked(item, list, record.what))), record.what)
            forgotten = fields.fixed(0, 80)
            self.says[forgotten[:16]] = forgotten[16:48]
        self.says |= {snapshot: None for snapshot in items(6, 16)}
        self.given_up = {snapshot_name(item, "retention") for item in items(9, 16)}


class Repository:
    """An opened repository: keys, packs and trees. Everything it returns was checked."""

    def __init__(self, directory, passphrase, remember=None, fingerprint=None, payload=None):
        self.directory = directory
        self.expected = fingerprint and evened_out(fingerprint)
        self.problems = 0
        self.sessions = {}  # header → (session secret, chunk id key)
        self.places = None  # chunk key → [(pack, frame number, begin, end)]
        self.plain = OrderedDict()  # (pack id, frame number) → plaintext, the latest used last
        require(self.names("config"), directory, "there is no repository here")
        self.unlock(passphrase, payload)
        config = self.newest("config", b"C", remember)
        version = config.uint(2)
        require(version == 1, "the configuration", f"its format version is {version}; this program reads 1")
        features = config.get(4, dict, {}).get(0, [])
        require(not features, "the configuration", f"reading requires features unknown here: {shown(str(features))}")
        for key in (5, 6):  # how contents were cut matters to writers only
            config.array(key, [int] * 5)
        config.uint(7)
        self.domains = {}
        keyring = self.newest("keyring", b"K", remember)
        for domain in keyring.get(2, list, []):
            self.add_domain(Record(domain, "a domain of the keyring"))
        self.writers = {}
        for writer in keyring.get(3, list, []):
            self.add_writer(Record(writer, "a writer of the keyring"))
        self.erased = {(domain, epoch) for domain, epoch, _ in keyring.get(4, list, [])}
        self.read_cleanups()
        self.read_retention()

    def report(self, error):
        self.problems += 1
        say(error)

    def names(self, prefix, pattern=".*"):
        """The names of objects below `prefix` that have the right form."""
        try:
            found = os.listdir(os.path.join(self.directory, prefix))
        except FileNotFoundError:
            return []
        return sorted(f"{prefix}/{name}" for name in found if re.fullmatch(pattern, name))

    def read(self, name):
        most = OBJECT_MAX[name.split("/")[0]]
        with open(os.path.join(self.directory, name), "rb") as file:
            data = file.read(most + 1)
        require(len(data) <= most, name, "it is longer than such an object can be")
        return data

    def unlock(self, passphrase, payload=None):
        """Opens a key slot that has the reader key, those of low work factor first (section 5); or takes what `age` made of one."""
        if payload is not None:
            require(self.expected, "the payload", "anybody can make a slot for a public key: give --fingerprint")
            taken = self.slot(Record(payload, "the payload"))
            require(taken, "the payload", "it does not lead to the repository that is meant, or has the key of a writer")
            self.fingerprint, self.id, self.verifying_key, self.reader_key = taken
            return
        slots, spent, taken, passphrase = [], 0, None, passphrase_of(passphrase).encode()
        for name in self.names("keys", r"[0-9a-f]{16}\.age"):
            try:
                data = self.read(name)
            except Damaged as error:
                say(f"note: {error}")
                continue
            header = AGE_HEADER.match(data)
            if data.startswith(AGE_FOR_KEYS):
                say(f"note: {name} is for a public key: give --slot what `age -d -i KEY {name}` makes of it")
                continue
            if not header or int(header[3]) > WORK_MAX:
                say(f"note: {name} is no key slot that may be tried")
                continue
            slots.append((int(header[3]), name, header, data[header.end() :]))
        slots.sort(key=lambda slot: slot[:2])
        for at, (factor, name, header, body) in enumerate(slots):
            spent += 1 << factor
            if spent > WORKS_MAX:
                say(f"note: {len(slots) - at} key slots were not tried, because they ask for too much")
                break
            try:
                payload = open_age(header, body, passphrase, name)
                found = payload is not None and self.slot(Record(payload, name))
            except Damaged as error:
                self.report(error)
                continue
            if found and taken and found[0] != taken[0]:
                raise Damaged(f"{name} leads to the repository {found[0]}, another slot to {taken[0]}: give --fingerprint")
            taken = taken or found
            if taken and self.expected:
                break  # with nothing expected, all slots that open must agree
        require(taken, "keys/", "no key slot gives the reader key for this passphrase")
        self.fingerprint, self.id, self.verifying_key, self.reader_key = taken

    def slot(self, slot):
        """Where a slot's payload leads, with its keys; None if that is elsewhere, or it only has the writer key."""
        require(slot.uint(0) == 1, slot.what, "a newer version")
        role, key = slot.uint(1, 0), slot.fixed(2, 32)
        repository, verifying_key = slot.fixed(3, 16), slot.fixed(4, 32)
        fingerprint = fingerprint_of(repository, verifying_key)
        require(role in (0, 1), slot.what, "an unknown role")
        if self.expected and fingerprint != self.expected:
            say(f"note: {slot.what} leads to another repository, with the fingerprint {fingerprint}: passed over")
            return None
        if role == 1:
            say(f"note: {slot.what} opens, but its key can only write")
            return None
        signing = Ed25519PrivateKey.from_private_bytes(derive(key, repository, "signing"))
        same = signing.public_key().public_bytes_raw() == verifying_key
        require(same, slot.what, "its keys do not belong together")
        return fingerprint, repository, verifying_key, key

    def newest(self, kind, letter, remember):
        """The configuration or keyring that counts (section 6)."""
        context = f"coffre/1 {kind}".encode() + self.id
        found = self.names(kind, r"[0-9]{8,}-[0-9a-f]{16}")
        for name in sorted(found, key=lambda name: (-int(name.split("/")[1].split("-")[0]), name)):
            try:
                cursor = Cursor(self.read(name), name)
                cursor.mark(letter)
                signature, payload = cursor.take(64), cursor.rest()
                try:
                    Ed25519PublicKey.from_public_bytes(self.verifying_key).verify(signature, context + payload)
                except InvalidSignature:
                    raise Damaged(f"{name}: its signature is wrong") from None
                record = Record(payload, name)
                require(record.fixed(0, 16) == self.id, name, "it is another repository's")
                counter = record.uint(1, 0)
                require(counter == int(name.split("/")[1].split("-")[0]), name, "its counter is not that of its name")
            except Damaged as error:
                self.report(error)
                continue
            check_rollback(remember, f"{self.id.hex()} {kind}", counter, name)
            return record
        raise Damaged(f"{kind}/: none of its objects is valid")

    def add_domain(self, record):
        """Opens the envelopes of a domain record and checks that its keys belong together."""
        domain, epoch = record.fixed(0, 16), record.uint(1, 0)
        what = f"domain {domain.hex()} epoch {epoch}"
        reader_wrap = derive(self.reader_key, self.id, "reader wrap")
        seed = open_envelope(record.get(3, bytes, b""), reader_wrap, self.id, "X", domain, what)
        named = Record(open_envelope(record.get(4, bytes, b""), reader_wrap, self.id, "W", domain, what), what)
        require(len(seed) == 32, what, "its secret key has the wrong length")
        key = DomainKey(seed, named.fixed(1, 32), domain, epoch)
        require(key.public == record.fixed(2, 1216), what, "its public key is another's")
        self.domains[domain, epoch] = key

    def add_writer(self, record):
        """Opens the name of a writer; what it may write to was sealed for it alone (section 6)."""
        writer_id, wrap = record.fixed(0, 8), derive(self.reader_key, self.id, "reader wrap")
        require(any(writer_id) and writer_id not in self.writers, record.what, "its id is zero or another's")
        sealed = record.get(2, bytes, b"")
        named = Record(open_envelope(sealed, wrap, self.id, "N", writer_id + bytes(8), record.what), record.what)
        granted = {(domain, epoch) for domain, epoch, _ in record.get(3, list, [])}
        self.writers[writer_id] = Writer(record.fixed(1, 32), named.get(0, str, ""), named.get(1, list, []), granted,
                                         record.uint(4, 0) != 0, record.fields.get(5), record.get(6, list, []))

    def session(self, header, what):
        """The session secret in a header, and the chunk id key of its domain (section 7)."""
        if header not in self.sessions:
            domain, epoch = header[16:32], int.from_bytes(header[32:36], "little")
            key = self.domains.get((domain, epoch))
            gone = "was erased" if (domain, epoch) in self.erased else "is not in the keyring"
            require(key, what, f"the key of domain {domain.hex()} epoch {epoch} {gone}")
            info = b"coffre/1 session" + self.id + header[16:36] + header[:16]
            self.sessions[header] = key.open(header[36:1156], header[1156:], info, what), key.chunk_id_key
        return self.sessions[header]

    # -- Section 13: what cleaning up has told

    def read_cleanups(self):
        """Reads the lists; one that cannot be opened is reported and left out."""
        lists = []
        for name in self.names("cleanup", r"[0-9]{8,}-[0-9a-f]{16}"):
            try:
                data, (counter, random) = self.read(name), name[8:].split("-")
                cursor = Cursor(data, name)
                cursor.mark(b"D")
                key = self.domains.get((cursor.take(16), cursor.u32()))
                require(key, name, "the key of its domain is not in the keyring")
                obj = int(counter).to_bytes(8, "big") + bytes.fromhex(random)
                opened = open_envelope(cursor.rest(), key.index_key, self.id, "D", obj, name)
                _, value = authored(opened, "D", self.id, obj, data[:28], {READER: self.verifying_key}, name)
                lists.append(CleanupList(Record(value, name), int(counter), hashlib.sha256(data).digest()))
            except (Damaged, OverflowError) as error:
                self.report(error)
        self.gone = {name for read in lists for name in read.gone}
        self.gone |= {snapshot_name(item[:16]) for read in lists for item in read.removed.values()}
        self.cleanups = [read for read in lists if read.name not in self.gone]
        self.chains = {read.digest: read for read in lists}  # over those that are gone as well

    def follows(self, one, other):
        """Whether a list was written by somebody who had read the other one."""
        by_digest = self.chains
        while one is not None and one.counter > other.counter:
            before = by_digest.get(one.before)
            one = before if before and before.counter < one.counter else None
        return one is other

    def exists(self, snapshot):
        """Whether a snapshot counts: its session was not given up, or it was there by then."""

        def counts(deletion):
            accounting = [read for read in self.cleanups if read.accounted.get(snapshot.id) == snapshot.digest]
            return any(self.follows(read, deletion) or self.follows(deletion, read) for read in accounting)

        session = snapshot.record.fixed(12, 16)
        giving_up = [read for read in self.cleanups if read.is_deleting and session in read.given_up]
        return all(counts(deletion) for deletion in giving_up)

    # -- Section 13: what was told of retention

    def read_retention(self):
        """Reads the records, and finds out which snapshots are forgotten."""
        wrap, records, unopened = derive(self.reader_key, self.id, "reader wrap"), [], []
        for name in self.names("retention", r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{16}"):
            try:
                data = self.read(name)
                cursor = Cursor(data, name)
                cursor.mark(b"R")
                value = open_envelope(cursor.rest(), wrap, self.id, "R", snapshot_id_of(name[10:]), name)
                records.append(RetentionRecord(Record(value, name), hashlib.sha256(data).digest()))
            except (Damaged, OSError, ValueError) as error:
                unopened.append((name, error))
        given_up = {name for record in records for name in record.given_up}
        for name, error in unopened:
            if name not in given_up:
                self.report(error)
        known, overtaken, missing = {}, set(), {}  # by SHA-256: what is said last, as (snapshot, SHA-256 of the record)
        led_to = {}
        for record in records:
            there = [before for before in record.before if before in known]
            missing[record.digest] = len(record.before) - len(there)
            led_to[record.digest] = set(there).union(*(led_to[before] for before in there))
            said = set().union(*(known[before] for before in there))
            over = {it for it in said if record.is_complete or it[0] in record.says}
            overtaken |= over
            known[record.digest] = (said - over) | {(snapshot, record.digest) for snapshot in record.says}
        for record in records:
            if record.is_complete:
                missing |= {digest: 0 for digest in led_to[record.digest] | {record.digest}}
        for record in records:
            if missing[record.digest]:
                self.report(f"{record.name}: a record before it is missing")
        self.forgotten = {}
        for record in records:
            for snapshot, what in record.says.items():
                if (snapshot, record.digest) not in overtaken:
                    self.forgotten.setdefault(snapshot, set()).add(what)

    def is_forgotten(self, snapshot):
        """Whether a snapshot is forgotten: of several that did not know of each other, the one that brings it back counts."""
        what = self.forgotten.get(snapshot.id, {None})
        return None not in what and snapshot.digest in what

    # -- Section 12

    def snapshot_names(self):
        names = self.names("snapshots", r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{16}")
        return [name for name in names if name not in self.gone]

    def snapshot(self, name):
        snapshot_id = snapshot_id_of(name[10:])
        data = self.read(name)
        cursor = Cursor(data, name)
        cursor.mark(b"S")
        header = cursor.take(HEADER_LEN)
        secret, _ = self.session(header, name)
        opened = open_envelope(cursor.rest(), secret, self.id, "S", snapshot_id, name)
        keys = {READER: self.verifying_key} | {author: writer.verifying_key for author, writer in self.writers.items()}
        author, value = authored(opened, "S", self.id, snapshot_id, b"coffreS\1" + header, keys, name)
        record = Record(value, name)
        require(record.uint(0) == 1, name, "a newer version")
        require(record.fixed(12, 16) == header[:16], name, "its session is not that of its header")
        root, depth = record.array(9, [bytes, int])
        require(len(root) == 32 and 1 <= depth <= DEPTH_MAX, name, "its tree is out of range")
        require(record.array(1, [int, int], [0, 0])[0] == int.from_bytes(snapshot_id[:8], "big", signed=True), name, "its start is not that of its name")
        before = record.fixed(15, 32) if 15 in record.fields else None
        require((record.uint(14) == 0) == (before is None), name, "only the first of a series has none before it")
        at = header[16:32], int.from_bytes(header[32:36], "little")
        return Snapshot(name, snapshot_id, hashlib.sha256(data).digest(), at, author, record, root, depth)

    def foreign(self, snapshot):
        """Why a snapshot does not count: its author may not say what it says, or it is another object than it was; None if it does."""
        there = [read.accounted[snapshot.id] for read in self.cleanups if snapshot.id in read.accounted]
        if there and snapshot.digest not in there:
            return "not the one that was there under its name before"
        if snapshot.author == READER:
            return None
        writer = self.writers[snapshot.author]
        if snapshot.at not in writer.granted:
            return "by a writer that may not write to its domain"
        if writer.hosts and snapshot.record.get(3, str, "") not in writer.hosts:
            return "by a writer that may not back up this host"
        named = [read for read in self.cleanups if read.digest in writer.counting]
        if writer.revoked and not any((snapshot.id, snapshot.digest) in read.counting for read in named):
            return "by a writer that was thrown out"
        return None

    def counts(self, snapshot):
        """Whether a snapshot may be the latest: neither foreign nor forgotten, and nothing that was asked for is missing in it."""
        return self.foreign(snapshot) is None and not self.is_forgotten(snapshot) and 13 not in snapshot.record.fields

    # -- Section 9

    def read_packs(self):
        """Reads the directories of all packs; a pack whose directory is damaged is reported and left out."""
        self.places = {}
        for directory in self.names("packs", "[0-9a-f]{2}"):
            for name in self.names(directory, directory[6:] + "[0-9a-f]{30}"):
                try:
                    self.read_pack(name)
                except (Damaged, OSError) as error:
                    self.report(error)

    def pack_part(self, pack, file, offset, length, part, number):
        """Reads and opens the frame, directory or tail that stands at `offset`."""
        what = f"{pack.name}, {('frame ' + str(number), 'directory', 'tail')[part]}"
        file.seek(offset)
        sealed = file.read(length)
        require(len(sealed) == length, what, "the pack is cut short")
        associated = self.id + pack.id + bytes([part]) + number.to_bytes(4, "little")
        return unseal(pack.aead, bytes(8) + number.to_bytes(4, "big"), sealed, associated, what)

    def read_pack(self, name):
        pack = Pack(name, bytes.fromhex(name[9:]), None, None, [])
        with open(os.path.join(self.directory, name), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            require(TRAILER_LEN <= size <= PACK_MAX, name, "its length is out of range")
            file.seek(size - TRAILER_LEN + 40)
            cursor = Cursor(file.read(TRAILER_LEN - 40), name)
            commitment, header = cursor.take(32), cursor.take(HEADER_LEN)
            cursor.mark(b"P")
            secret, pack.chunk_id_key = self.session(header, name)
            pack.domain = header[16:32]
            pack.aead = committed_key(secret, pack.id, "pack", commitment, name)
            tail = Cursor(self.pack_part(pack, file, size - TRAILER_LEN, 40, 2, 2**32 - 1), f"{name}, tail")
            offset, length, stated, count, kind = tail.u32(), tail.u32(), tail.u32(), tail.u32(), tail.u8()
            require(stated == size, name, f"it has {size} bytes and should have {stated}")
            require(offset + length + TRAILER_LEN <= size, name, "its directory lies outside")
            require(length <= DIRECTORY_MAX, name, "its directory is too long")
            require(kind in (0, 1), name, "an unknown kind of pack")
            directory = self.pack_part(pack, file, offset, length, 1, 2**32 - 2)
        cursor, found, at = Cursor(directory, f"{name}, directory"), [], 0
        require(cursor.varint() == count, name, "its directory has another number of frames than its tail")
        for number in range(count):
            sealed_len, plain_len, codec, chunks = cursor.varint(), cursor.varint(), cursor.u8(), cursor.varint()
            right = plain_len <= FRAME_PLAIN_MAX and 16 <= sealed_len <= plain_len + 16
            require(right, name, "the length of a frame is out of range")
            require(codec in (0, 1, 2, 3), name, "a frame is encoded in an unknown way")
            require(0 < chunks <= len(directory) // 17, name, "the number of chunks of a frame is out of range")
            pack.frames.append((at, sealed_len, plain_len, codec))
            at, begin = at + sealed_len, 0
            lengths = [cursor.varint() for _ in range(chunks)]
            require(sum(lengths) == plain_len and 0 not in lengths, name, "the chunks of a frame do not add up")
            for chunk_len in lengths:
                found.append((cursor.take(16), (pack, number, begin, begin + chunk_len)))
                begin += chunk_len
        cursor.finish()
        require(at == offset, name, "its frames do not end where its directory begins")
        for key, place in found:
            self.places.setdefault(key, []).append(place)

    def frame(self, pack, number):
        """The plaintext of a frame."""
        if (pack.id, number) in self.plain:
            self.plain.move_to_end((pack.id, number))
            return self.plain[pack.id, number]
        offset, sealed_len, plain_len, codec = pack.frames[number]
        with open(os.path.join(self.directory, pack.name), "rb") as file:
            plain = self.pack_part(pack, file, offset, sealed_len, 0, number)
        what = f"{pack.name}, frame {number}"
        if codec in (1, 3):
            try:
                require(zstandard.frame_content_size(plain) == plain_len, what, "its length is not the one stated")
                plain = zstandard.ZstdDecompressor().decompress(plain, plain_len, allow_extra_data=False)
            except zstandard.ZstdError as error:
                raise Damaged(f"{what}: {error}") from None
        require(len(plain) == plain_len, what, "its length is not the one stated")
        self.plain[pack.id, number] = plain
        if len(self.plain) > FRAMES_KEPT:
            self.plain.popitem(last=False)
        return plain

    def chunk(self, chunk_id, length=None):
        """A chunk from whichever place gives it, its id compared (section 8)."""
        return self.whole(chunk_id, RECIPE_DEPTH_MAX + 1, None, Spent(), length)

    def whole(self, wanted, below, domain, spent, length=None):
        """The chunk of an id, or of a key that a recipe of depth `below` in a domain names, from whichever place gives it."""
        failures = []
        for pack, number, begin, end in self.places.get(wanted[:16], []):
            what, is_recipe = f"{pack.name}, frame {number}", pack.frames[number][3] >= 2
            try:
                require(domain in (None, pack.domain), what, "is of another domain than the recipe that names it")
                if domain:
                    spent.take(wanted, pack, number, what)
                plain = self.frame(pack, number)[begin:end]
                if is_recipe:
                    plain = self.window(read_recipe(plain, what), below, pack.domain, spent, what)
                right = blake3(plain, key=pack.chunk_id_key).digest()[: len(wanted)] == wanted
                require(right and length in (None, len(plain)), what, "holds another chunk")
                return plain
            except (Damaged, OSError) as error:
                failures.append(str(error))
        raise Damaged(f"chunk {wanted.hex()}: " + ("; ".join(failures) or "no readable pack has it"))

    def window(self, recipe, below, domain, spent, what):
        """What a recipe makes that is named by one of depth `below`. Every chunk is compared with its key, not only the window."""
        require(recipe.depth < below, what, "the recipe is not below the one that names it")
        spent.take_items(recipe, what)
        return put_together(recipe, lambda key: self.whole(key, recipe.depth, domain, spent), what)

    # -- Section 11

    def node(self, node_id, kind):
        """A cursor behind the kind and number of items of a node, and that number."""
        cursor = Cursor(self.chunk(node_id), f"node {node_id.hex()}")
        require(len(cursor.data) <= NODE_MAX, cursor.what, "it is too long")
        require(cursor.u8() == kind, cursor.what, "a node of another kind")
        count = cursor.varint()
        require(count <= NODE_ITEMS_MAX, cursor.what, "it has too many items")
        return cursor, count

    def entries(self, node_id, depth, first=None, before=None, sums=None):
        """Yields path and record of the entries below a node, in order; what is damaged is reported and left out.

        `first` is the path with which the node must begin, all its paths come before `before`, and `sums` are the entries
        and bytes below it.
        """
        try:
            items = self.tree_node(node_id, depth, first, before, sums)
        except Damaged as error:
            self.report(error)
            return
        if depth == 1:
            yield from items
            return
        for (path, child, below), end in zip(items, [item[0] for item in items[1:]] + [before]):
            yield from self.entries(child, depth - 1, path, end, below)

    def tree_node(self, node_id, depth, first, before, sums=None):
        """The items of a tree node: path and Record in a leaf; path, child's id and its sums in others."""
        cursor, count = self.node(node_id, 1 if depth == 1 else 2)
        require(count or (depth == 1 and first is None), cursor.what, "it is empty")
        items, path, decoded, parts = [], b"", 0, 0
        for _ in range(count):
            last, shared = path, cursor.varint()
            require(shared <= len(last), cursor.what, "a path shares too much")
            path = last[:shared] + cursor.take(cursor.varint())
            decoded += len(path)
            require(decoded <= NODE_PATHS_MAX, cursor.what, "its paths are too long")
            safe = len(path) <= PATH_MAX and b"\0" not in path and not {b"", b".", b".."} & set(path.split(b"/"))
            require(safe, cursor.what, f"the path {shown(path)!r} is not allowed")
            require(not last or last.split(b"/") < path.split(b"/"), cursor.what, "its paths do not ascend")
            if depth == 1:
                above = items[-1] if items else (b"", None)
                below_leaf = above[1] and above[1].uint(0, 0) != DIRECTORY and path.startswith(above[0] + b"/")
                require(not below_leaf, cursor.what, f"{shown(path)} lies below something that is no directory")
                record = Record(cursor.take(cursor.varint()), shown(path))
                parts += parts_of(record)
                require(parts <= NODE_PARTS_MAX, cursor.what, "its entries hold too much")
                items.append((path, record))
            else:
                items.append((path, cursor.take(32), (cursor.varint(), cursor.varint())))
        cursor.finish()
        if depth == 1:
            found = len(items), sum(record.uint(14, 0) for _, record in items if record.uint(0, 0) in (FILE, STREAM))
        else:
            found = sum(below[0] for _, _, below in items), sum(below[1] for _, _, below in items)
        require(sums in (None, found), cursor.what, "it does not add up to what its parent says")
        require(first is None or items[0][0] == first, cursor.what, "it does not begin as its parent says")
        require(before is None or path.split(b"/") < before.split(b"/"), cursor.what, "it reaches into the next node")
        goes_on = depth == 1 and items and before is not None and before.startswith(path + b"/")
        require(not goes_on or items[-1][1].uint(0, 0) == DIRECTORY, cursor.what, "what follows lies below no directory")
        return items

    def content(self, record):
        """Size, holes as (offset, length), and an iterable of (chunk id, length) of a file or stream."""
        size, flat = record.uint(14, 0), record.get(18, list, [])
        holes, end = list(zip(flat[::2], flat[1::2])), 0
        require(len(flat) % 2 == 0 and all(type(n) is int for n in flat), record.what, "its holes are not pairs")
        for offset, length in holes:
            require(offset >= end and length > 0, record.what, "its holes are out of order")
            end = offset + length
        require(end <= size, record.what, "its holes reach past its end")
        if 17 in record.fields:
            node_id, depth, chunks = record.array(17, [bytes, int, int])
            require(len(node_id) == 32 and 1 <= depth <= DEPTH_MAX, record.what, "its chunk list is out of range")
            return size, holes, self.chunk_list(node_id, depth, (chunks, size - sum(length for _, length in holes)))
        ids = record.get(15, bytes, b"")
        lengths = record.get(16, list, [size - sum(length for _, length in holes)] if len(ids) == 32 else [])
        require(len(ids) == 32 * len(lengths), record.what, "chunks and lengths are not as many")
        return size, holes, [(ids[32 * i : 32 * i + 32], length) for i, length in enumerate(lengths)]

    def chunk_list(self, node_id, depth, sums=None):
        """Yields (chunk id, length) of all chunks below a list node; `sums` are their number and bytes."""
        cursor, count = self.node(node_id, 3 if depth == 1 else 4)
        require(count > 0, cursor.what, "it is empty")
        if depth == 1:
            ids = [cursor.take(32) for _ in range(count)]
            items = [(chunk_id, cursor.varint()) for chunk_id in ids]
            found = count, sum(length for _, length in items)
            require(all(length for _, length in items), cursor.what, "a chunk has no bytes")
        else:
            items = [(cursor.take(32), cursor.varint(), cursor.varint()) for _ in range(count)]
            found = sum(item[1] for item in items), sum(item[2] for item in items)
        cursor.finish()
        require(sums in (None, found), cursor.what, "it does not add up to what is told of it")
        for item in items:
            yield from [item] if depth == 1 else self.chunk_list(item[0], depth - 1, item[1:])


def parts_of(record):
    """How many items a record of an entry holds (section 17)."""
    stream = record.get(21, dict, {})
    held = [record.get(key, list, []) for key in (16, 18)] + [record.get(13, dict, {}), stream.get(0, []), stream.get(2, {})]
    return sum(len(it) for it in held if isinstance(it, (list, dict)))


def check_rollback(remember, what, counter, name):
    """Refuses a counter lower than one seen earlier, which the file `remember` holds (section 6)."""
    if not remember:
        return
    seen = {}
    if os.path.exists(remember):
        with open(remember, encoding="utf-8") as file:
            seen = json.load(file)
    require(counter >= seen.get(what, 0), name, f"rolled back: counter {seen.get(what)} was there before")
    with open(remember + ".new", "w", encoding="utf-8") as file:
        json.dump(seen | {what: counter}, file)
    os.replace(remember + ".new", remember)


# ---- Restoring ----


class Restore:
    """Writes entries below a directory that was empty, so that everything in it was made here."""

    def __init__(self, repository, target):
        self.repository, self.target = repository, os.fsencode(target)
        os.makedirs(self.target, exist_ok=True)
        require(not os.listdir(self.target), target, "the target is not empty")
        self.made = {}  # path → record of the directories made; None where there was no entry
        self.linked = {}  # inode and content → path of its first name

    def run(self, snapshot):
        for path, record in self.repository.entries(snapshot.root, snapshot.depth):
            try:
                self.entry(path, record)
            except (Damaged, OSError, OverflowError, ValueError) as error:
                self.repository.report(error if isinstance(error, Damaged) else f"{shown(path)}: {error}")
        for path, record in reversed(self.made.items()):  # what a directory holds comes before its times
            if record:
                self.metadata(self.at(path), record, path)

    def at(self, path):
        return os.path.join(self.target, path)

    def entry(self, path, record):
        kind = record.uint(0, 0)
        if kind in LEFT_OUT:
            say(f"note: {shown(path)} is {LEFT_OUT[kind]} and is not restored")
            return
        require(kind in (FILE, DIRECTORY, SYMLINK, FIFO, STREAM), record.what, "an entry of a newer kind")
        for i, byte in enumerate(path):  # directories that are not there; never through anything else
            if byte == 0x2F and path[:i] not in self.made:
                os.mkdir(self.at(path[:i]))
                self.made[path[:i]] = None
        if kind == DIRECTORY:
            os.mkdir(self.at(path), 0o700)
            self.made[path] = record
            return
        if kind == SYMLINK:
            os.symlink(record.get(19, bytes), self.at(path))
        elif kind == FIFO:
            os.mkfifo(self.at(path), 0o600)
        elif self.file(path, record, kind):
            return
        self.metadata(self.at(path), record, path)

    def file(self, path, record, kind):
        """Writes a file or stream, or removes it again if it cannot be read. Returns whether it was only linked."""
        size, holes, chunks = self.repository.content(record)
        inode = None
        if kind == FILE and record.uint(12, 0) > 1:
            inode = record.uint(10, 0), record.uint(11, 0), size, record.get(15, bytes, b"")
            inode += tuple(str(record.fields.get(key)) for key in (*range(1, 8), 13, 16, 17, 18))
            if inode in self.linked:
                os.link(self.at(self.linked[inode]), self.at(path), follow_symlinks=False)
                return True
        fd = os.open(self.at(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            os.ftruncate(fd, size)
            self.fill(fd, size, holes, chunks, record.what)
        except BaseException:
            os.unlink(self.at(path))
            raise
        finally:
            os.close(fd)
        if inode:
            self.linked[inode] = path
        return False

    def fill(self, fd, size, holes, chunks, what):
        """Writes the chunks one after the other into what is not a hole."""
        ends = [0] + [offset + length for offset, length in holes]
        pieces = iter(zip(ends, [offset for offset, _ in holes] + [size]))
        left = size - sum(length for _, length in holes)
        begin = end = 0
        for chunk_id, length in chunks:
            require(type(length) is int and 0 < length <= left, what, "its chunks do not add up to its size")
            left -= length
            data = memoryview(self.repository.chunk(chunk_id, length))
            while data:
                while begin == end:
                    begin, end = next(pieces)
                written = os.pwrite(fd, data[: end - begin], begin)
                begin, data = begin + written, data[written:]
        require(left == 0, what, "its chunks do not add up to its size")

    def metadata(self, place, record, path):
        """Sets owner (as root), mode and mtime. Without the owner, set-user-id and set-group-id are left off."""
        try:
            uid, gid, mode = record.uint(2, 0), record.uint(3, 0), record.uint(1, 0) & 0o7777
            if os.geteuid() == 0:
                os.chown(place, uid, gid, follow_symlinks=False)
            status = os.lstat(place)
            if not stat.S_ISLNK(status.st_mode):
                os.chmod(place, mode if (status.st_uid, status.st_gid) == (uid, gid) else mode & 0o1777)
            mtime = record.get(6, int, 0) * 10**9 + record.uint(7, 0)
            os.utime(place, ns=(mtime, mtime), follow_symlinks=False)
        except (Damaged, OSError, OverflowError) as error:
            self.repository.report(f"{shown(path)}: its mode or times: {error}")


def readable_snapshots(repository, names):
    """Snapshots that exist, in the order of their names; those that cannot be read are reported."""
    for name in names:
        try:
            snapshot = repository.snapshot(name)
            if repository.exists(snapshot):
                yield snapshot
        except (Damaged, OSError, ValueError) as error:
            repository.report(error)


def list_snapshots(repository):
    """Prints the snapshots, and behind an empty line the foreign and the forgotten ones, with the reason."""
    apart = []
    for snapshot in readable_snapshots(repository, repository.snapshot_names()):
        try:
            record, why = snapshot.record, repository.foreign(snapshot)
            why = why or ("forgotten" if repository.is_forgotten(snapshot) else None)
            counts = record.array(10, [int] * 8, [0] * 8)
            host, what = record.get(3, str, ""), [checked(item, bytes, snapshot.name) for item in record.get(7, list, [])]
        except Damaged as error:
            repository.report(error)
            continue
        notes = [f"({note})" for note in ("incomplete" if 13 in record.fields else None, why) if note]
        line = [snapshot.id.hex(), snapshot.name[10:26], shown(host), f"{counts[0]} files", f"{counts[2]} streams",
                f"{counts[4]} bytes", " ".join(map(shown, what)), *notes]
        apart.append(line) if why else print("  ".join(line))
    if apart:
        print("", *("  ".join(line) for line in apart), sep="\n")


def restore(repository, wanted, target):
    names = repository.snapshot_names()
    require(names, "snapshots/", "there are none")
    if wanted == "latest":
        newest_first = readable_snapshots(repository, reversed(names))
        snapshot = next((found for found in newest_first if repository.counts(found)), None)
        require(snapshot, "snapshots/", "there is none that counts")
    else:
        matching = [name for name in names if wanted == name[10:] or wanted.endswith(name[27:]) and len(wanted) == 32]
        snapshots = [found for found in readable_snapshots(repository, matching) if wanted in (found.id.hex(), found.name[10:])]
        require(snapshots, wanted, "there is no such snapshot")
        snapshot = snapshots[0]
        if repository.foreign(snapshot):
            say(f"note: {snapshot.name} is {repository.foreign(snapshot)}: it counts for nothing, and says what its author likes")
        if repository.is_forgotten(snapshot):
            say(f"note: {snapshot.name} is forgotten: a clean-up may remove it")
    repository.read_packs()
    Restore(repository, target).run(snapshot)


def main():
    parser = argparse.ArgumentParser(description="Reads a coffre repository without coffre.")
    parser.add_argument("--repo", required=True, metavar="DIR", help="the repository's directory")
    opened_by = parser.add_mutually_exclusive_group(required=True)
    opened_by.add_argument("--password-file", metavar="FILE", help="passphrase or recovery identity")
    opened_by.add_argument("--slot", metavar="FILE", help="what `age -d -i KEY keys/….age` gives of a key slot for a public key")
    parser.add_argument("--fingerprint", metavar="TEXT", help="the repository that is meant, as on its recovery kit")
    parser.add_argument("--remember", metavar="FILE", help="where to keep the counters seen, to notice a roll-back")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="show the snapshots, the oldest first")
    command = commands.add_parser("restore", help="write a snapshot below a directory")
    command.add_argument("snapshot", help="id, name below snapshots/, or latest")
    command.add_argument("target", help="a directory that is empty or not there yet")
    arguments = parser.parse_args()
    try:
        passphrase = payload = None
        if arguments.slot:
            with open(arguments.slot, "rb") as file:
                payload = file.read()
        else:
            with open(arguments.password_file, encoding="utf-8", newline="") as file:
                passphrase = file.read().removesuffix("\n").removesuffix("\r")
        repository = Repository(arguments.repo, passphrase, arguments.remember, arguments.fingerprint, payload)
        say(f"note: repository {repository.id.hex()}, with the fingerprint {repository.fingerprint}")
        if arguments.command == "list":
            list_snapshots(repository)
        else:
            restore(repository, arguments.snapshot, arguments.target)
    except (Damaged, OSError, ValueError) as error:
        say(error)
        return 1
    if repository.problems:
        say(f"{repository.problems} problems, see above")
    return 1 if repository.problems else 0


if __name__ == "__main__":
    sys.exit(main())
