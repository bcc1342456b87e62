"""The signing key of permits: made at the first start, kept where only the controller reads it.

Here: the local folder's way, and encoding. The Kubernetes way (Secret, ConfigMap) is in apply/kubernetes.py.
"""

import hashlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pilotage_core.errors import InvalidInputError
from pilotage_operator.files import write_file
from pilotage_operator.permits import SigningKey


def make_key() -> SigningKey:
    """A new key, named by its public half."""
    return name_key(Ed25519PrivateKey.generate())


def name_key(private: Ed25519PrivateKey) -> SigningKey:
    """`private` with its kid: 16 hex digits of the public half's digest."""
    public = private.public_key().public_bytes_raw()
    return SigningKey(hashlib.blake2b(public, digest_size=8).hexdigest(), private)


def decode_key(raw: bytes, where: str) -> SigningKey:
    """The key of 32 raw bytes. Raises InvalidInputError for anything else."""
    if len(raw) != 32:
        raise InvalidInputError(
            f"has {len(raw)} bytes, a key has 32", where=where, remedy="remove it: a new one is made"
        )
    return name_key(Ed25519PrivateKey.from_private_bytes(raw))


def load_local_key(folder: Path) -> SigningKey:
    """The key in `folder` (made where there is none); its public half lies beside it as `<kid>.pub`."""
    path = folder / "signing.key"
    if path.exists():
        key = decode_key(path.read_bytes(), str(path))
    else:
        key = make_key()
        write_file(path, key.private.private_bytes_raw(), mode=0o600)
    write_file(folder / f"{key.kid}.pub", key.private.public_key().public_bytes_raw())
    return key


def read_local_epoch(path: Path) -> int:
    """The epoch of the last start; 0 where there was none. Raises InvalidInputError where it is no number."""
    if not path.exists():
        return 0
    try:
        return int(path.read_text())
    except ValueError as error:
        raise InvalidInputError(
            "holds no epoch", where=str(path), remedy="write the highest epoch ever used"
        ) from error
