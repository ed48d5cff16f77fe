"""Signs bundles with Ed25519, and checks signatures.

SHA256SUMS.sig holds the signature of SHA256SUMS, 64 bytes, and nothing else. `openssl pkeyutl` writes and verifies the
same file, so a receiver needs neither keras-bench nor any trust in it.
"""

from __future__ import annotations

import getpass
import os
import shlex
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from keras_bench.bundle.sums import SIGNATURE, SUMS, BundleError, check_sums, unlisted_files, unlisted_words
from keras_bench.console import Log
from keras_bench.errors import RunError, UserError
from keras_bench.files import write_bytes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PASSPHRASE = "KERAS_BENCH_KEY_PASSPHRASE"
SIGNATURE_BYTES = 64
MAX_KEY_BYTES = 100_000  # a PEM key has a few hundred; more is another file, given by mistake
_INSTALL = "pip install '.[sign]' in a checkout, otherwise pip install 'keras-bench[sign]'"


def load_private_key(path: Path, log: Log) -> Ed25519PrivateKey:
    """Return the key that signs; if it is encrypted, the passphrase comes from the environment or the terminal.

    Raises:
        UserError: the file is not a private Ed25519 key in PEM, or the passphrase is missing or wrong.
    """
    require_cryptography("--sign")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = _read_pem("--sign", path, "PRIVATE KEY", "it is a public key; give the private one")
    passphrase = _passphrase(path) if _is_encrypted(content) else None
    try:
        key = load_pem_private_key(content, passphrase)
    except Exception as error:  # ValueError, TypeError, UnsupportedAlgorithm, or a backend's own error
        if passphrase is None:
            raise _unusable("--sign", path, "it is damaged") from error
        reason = "is wrong, or the file is damaged" if passphrase else "is empty"
        raise UserError(f"--sign: {path}: {_passphrase_origin()} {reason}; {_passphrase_remedy()}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _unusable("--sign", path, f"it is of another type ({_type_name(key)})")
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
        log.warn(
            f"--sign: {path}: other users may read or change this private key; run: chmod 600 {shlex.quote(str(path))}"
        )
    return key


def load_public_key(path: Path) -> Ed25519PublicKey:
    """Return the key that signatures are checked with.

    Raises:
        UserError: the file is not a public Ed25519 key in PEM.
    """
    require_cryptography("--key")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = _read_pem("--key", path, "PUBLIC KEY", "it is a private key; give the public one, and keep this secret")
    try:
        key = load_pem_public_key(content)
    except Exception as error:  # ValueError, UnsupportedAlgorithm, or a backend's own error
        raise _unusable("--key", path, "it is damaged") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _unusable("--key", path, f"it is of another type ({_type_name(key)})")
    return key


def sign_bundle(folder: Path, key: Ed25519PrivateKey, log: Log) -> None:
    """Sign a finished bundle: check every file against SHA256SUMS, then write SHA256SUMS.sig. Nothing else changes.

    Raises:
        RunError: a file is changed, missing or not listed, so it is not signed.
    """
    try:
        check_sums(folder)
        unlisted = unlisted_words(unlisted_files(folder))
    except BundleError as error:
        raise RunError(f"not signed: {error}") from error
    if unlisted:
        raise RunError(f"not signed: {folder}: {unlisted}; remove it or export again")
    path = folder / SIGNATURE
    signature = key.sign((folder / SUMS).read_bytes())
    if path.is_file() and path.read_bytes() == signature:  # Ed25519 gives the same signature every time
        log.line(f"signed:  {path} (before, with the same key)")
        return
    write_bytes(path, signature)
    log.line(f"signed:  {path}")


def verify_signature(folder: Path, key: Ed25519PublicKey, origin: Path, log: Log) -> None:
    """Check the signature of SHA256SUMS, and that the sums leave out no file.

    Args:
        folder: the bundle.
        key: the signer's public key.
        origin: the key's file, for messages.
        log: the screen.

    Raises:
        RunError: the bundle is not signed, not with this key, was changed since, or holds other files.
    """
    from cryptography.exceptions import InvalidSignature

    path = folder / SIGNATURE
    if not path.is_file():
        raise RunError(f"not verified: {folder} is not signed (there is no {SIGNATURE}), so --key cannot be checked")
    try:
        signature, sums = path.read_bytes(), (folder / SUMS).read_bytes()
    except OSError as error:
        raise RunError(f"not verified: {error.filename} cannot be read: {error.strerror}") from error
    if len(signature) != SIGNATURE_BYTES:
        raise RunError(
            f"not verified: {path}: expected {SIGNATURE_BYTES} bytes, received {len(signature):,}; it is damaged, or "
            "not a signature of keras-bench"
        )
    try:
        key.verify(signature, sums)
    except InvalidSignature as error:
        raise RunError(
            f"not verified: {path} is not a signature of {SUMS} by the key {origin}: the bundle was changed after "
            "it was signed, or somebody else signed it"
        ) from error
    try:
        unlisted = unlisted_words(unlisted_files(folder))
    except BundleError as error:
        raise UserError(str(error)) from error
    if unlisted:
        raise RunError(f"not verified: {folder}: {unlisted}; the signature covers only listed files")
    log.line(f"{path}: signed with the key {origin}")


def require_cryptography(option: str) -> None:
    """Check that the package that signs is installed.

    Raises:
        UserError: it is not.
    """
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise UserError(f"{option} needs the package cryptography, which is not installed: {_INSTALL}") from error


def _read_pem(option: str, path: Path, kind: str, other: str) -> bytes:
    """Return a PEM file's content after checking that it says it holds this kind of key and not the `other`."""
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_KEY_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{option}: {path} cannot be read: {reason}; expected a key file in PEM") from error
    titles = {line.strip(b"- \r") for line in content.split(b"\n") if line.startswith(b"-----BEGIN ")}
    kinds = {name for name in ("PRIVATE KEY", "PUBLIC KEY") if any(title.endswith(name.encode()) for title in titles)}
    if b"BEGIN OPENSSH PRIVATE KEY" in titles or content.startswith(b"ssh-"):
        raise _unusable(option, path, "it is a key of OpenSSH, in OpenSSH's own format")
    if len(content) > MAX_KEY_BYTES or not kinds:
        raise _unusable(option, path, "it is not PEM")
    if kind not in kinds:
        raise _unusable(option, path, other)
    return content


def _is_encrypted(content: bytes) -> bool:
    return b"BEGIN ENCRYPTED PRIVATE KEY" in content or b"Proc-Type: 4,ENCRYPTED" in content


def _passphrase(path: Path) -> bytes:
    """Return the passphrase of an encrypted key, from the environment or the terminal."""
    passphrase = os.environ.get(PASSPHRASE)
    if passphrase is None:
        if not sys.stdin.isatty():
            raise UserError(f"--sign: {path} is encrypted; set {PASSPHRASE} to its passphrase, or use a terminal")
        try:
            passphrase = getpass.getpass(f"passphrase of {path}: ")
        except EOFError as error:
            raise UserError(f"--sign: {path}: no passphrase was typed; {_passphrase_remedy()}") from error
    return passphrase.encode(errors="surrogateescape")  # bytes of the environment that are not UTF-8


def _passphrase_origin() -> str:
    return f"the passphrase in {PASSPHRASE}" if PASSPHRASE in os.environ else "the passphrase that was typed"


def _passphrase_remedy() -> str:
    return f"correct {PASSPHRASE}, or unset it to be asked" if PASSPHRASE in os.environ else "run the command again"


def _unusable(option: str, path: Path, reason: str) -> UserError:
    made_by = {
        "--sign": "openssl genpkey -algorithm ed25519 -out private.pem",
        "--key": "openssl pkey -in private.pem -pubout -out public.pem",
    }
    kind = {"--sign": "private", "--key": "public"}
    return UserError(
        f"{option}: {path}: expected a {kind[option]} Ed25519 key in PEM, as made by `{made_by[option]}`, but {reason}"
    )


def _type_name(key: object) -> str:
    """Return "RSA" for RSA's key classes, whose names begin with an underscore or not, and likewise for others."""
    return type(key).__name__.strip("_").removesuffix("Key").removesuffix("Private").removesuffix("Public")
