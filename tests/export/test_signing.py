"""Signed bundles: by whom, checked by whom, and what is refused; openssl is the independent implementation."""

import io
import shutil
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from keras_bench.bundle.sums import check_sums
from keras_bench.cli.main import main
from keras_bench.export.files import write_sums
from keras_bench.export.signing import PASSPHRASE
from tests.bundle_ways import ALONE
from tests.made_bundle import make_bundle


def write_pair(folder, name, key=None, passphrase=None, encoding=PrivateFormat.PKCS8):
    """Write NAME.pem and NAME.public.pem, and return their paths."""
    key = key or Ed25519PrivateKey.generate()
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    private, public = folder / f"{name}.pem", folder / f"{name}.public.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, encoding, encryption))
    private.chmod(0o600)
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return str(private), str(public)


@pytest.fixture
def keys(tmp_path):
    return write_pair(tmp_path, "mine")


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "bundle")


def run(capsys, *words):
    """Return a command's exit code and everything it printed, on one line."""
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert len(captured.err.splitlines()) <= 1
    return code, " ".join((captured.out + captured.err).split())


def test_a_signed_bundle_is_verified_with_the_public_key(bundle, keys, capsys):
    private, public = keys
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    code, output = run(capsys, "export", bundle, "--sign", private)
    assert (code, output) == (0, f"signed: {bundle / 'SHA256SUMS.sig'}")
    assert {path: path.read_bytes() for path in before} == before
    code, output = run(capsys, "verify", bundle, "--key", public)
    assert code == 0
    assert f"SHA256SUMS.sig: signed with the key {public}" in output
    assert "sample images agree" in output
    code, output = run(capsys, "verify", bundle)
    assert code == 0
    assert "the bundle is signed, but the signature was not checked: give the key with --key" in output
    code, output = run(capsys, "export", bundle, "--sign", private)
    assert (code, output) == (0, f"signed: {bundle / 'SHA256SUMS.sig'} (before, with the same key)")


def test_a_signature_changes_nothing_for_the_sums_and_the_runner(bundle, keys, capsys):
    names = check_sums(bundle)
    assert run(capsys, "export", bundle, "--sign", keys[0])[0] == 0
    assert check_sums(bundle) == names
    write_sums(bundle)
    assert check_sums(bundle) == names
    command = [sys.executable, "-c", ALONE, str(bundle / "predict.py"), "--verify"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert run(capsys, "verify", bundle, "--key", keys[1])[0] == 0


openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="needs the openssl program")


@openssl
def test_openssl_verifies_our_signature_and_writes_one_that_we_verify(bundle, tmp_path, capsys):
    """With the commands of docs/onnx-bundles.md."""
    shell = {"cwd": bundle, "check": True, "capture_output": True}
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], **shell)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], **shell)
    assert run(capsys, "export", bundle, "--sign", private)[0] == 0
    ours = (bundle / "SHA256SUMS.sig").read_bytes()
    verify = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", str(public)]
    verify += ["-sigfile", "SHA256SUMS.sig", "-in", "SHA256SUMS"]
    assert b"Signature Verified Successfully" in subprocess.run(verify, **shell).stdout
    (bundle / "SHA256SUMS.sig").unlink()
    sign = ["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", str(private), "-in", "SHA256SUMS"]
    subprocess.run([*sign, "-out", "SHA256SUMS.sig"], **shell)
    assert (bundle / "SHA256SUMS.sig").read_bytes() == ours
    assert run(capsys, "verify", bundle, "--key", public)[0] == 0
    with (bundle / "SHA256SUMS").open("a") as stream:
        stream.write(f"{'a' * 64}  more.txt\n")
    assert subprocess.run(verify, cwd=bundle, capture_output=True).returncode != 0


@openssl
def test_a_key_that_openssl_encrypted_is_read(bundle, tmp_path, capsys, monkeypatch):
    private = tmp_path / "private.pem"
    command = ["openssl", "genpkey", "-algorithm", "ed25519", "-aes256", "-pass", "pass:söm€", "-out", private]
    subprocess.run(command, check=True, capture_output=True)
    monkeypatch.setenv(PASSPHRASE, "söm€")
    assert run(capsys, "export", bundle, "--sign", private)[0] == 0


def test_the_passphrase_comes_from_the_environment_or_the_terminal(bundle, tmp_path, capsys, monkeypatch):
    private, public = write_pair(tmp_path, "locked", passphrase=b"open sesame")
    monkeypatch.delenv(PASSPHRASE, raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert run(capsys, "export", bundle, "--sign", private) == (
        2,
        f"error: --sign: {private} is encrypted; set {PASSPHRASE} to its passphrase, or use a terminal",
    )
    monkeypatch.setenv(PASSPHRASE, "open sesame")
    assert run(capsys, "export", bundle, "--sign", private)[0] == 0
    monkeypatch.delenv(PASSPHRASE)
    (bundle / "SHA256SUMS.sig").unlink()
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda prompt: "open sesame")
    assert run(capsys, "export", bundle, "--sign", private)[0] == 0
    assert run(capsys, "verify", bundle, "--key", public)[0] == 0
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    assert PASSPHRASE in capsys.readouterr().out


@pytest.mark.parametrize("where", ["environment", "terminal"])
def test_a_wrong_passphrase_is_called_wrong_in_one_line(bundle, tmp_path, capsys, monkeypatch, where):
    private, _ = write_pair(tmp_path, "locked", passphrase=b"open sesame")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    wrong = "is wrong, or the file is damaged"
    for passphrase, reason in (("open", wrong), ("s\udcf6sam", wrong), ("", "is empty")):
        if where == "environment":
            monkeypatch.setenv(PASSPHRASE, passphrase)
        else:
            monkeypatch.delenv(PASSPHRASE, raising=False)
            monkeypatch.setattr("getpass.getpass", lambda prompt, typed=passphrase: typed)
        origin = f"in {PASSPHRASE}" if where == "environment" else "that was typed"
        message = f"error: --sign: {private}: the passphrase {origin} {reason}; "
        code, output = run(capsys, "export", bundle, "--sign", private)
        assert code == 2
        assert output.startswith(message)
        assert "openssl" not in output  # the key is of the right kind
    assert not (bundle / "SHA256SUMS.sig").exists()


def test_no_passphrase_at_the_terminal_is_one_line(bundle, tmp_path, capsys, monkeypatch):
    private, _ = write_pair(tmp_path, "locked", passphrase=b"open sesame")
    monkeypatch.delenv(PASSPHRASE, raising=False)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)

    def end_of_input(prompt):  # Ctrl-D
        raise EOFError

    monkeypatch.setattr("getpass.getpass", end_of_input)
    code, output = run(capsys, "export", bundle, "--sign", private)
    assert (code, output.partition("; ")[0]) == (2, f"error: --sign: {private}: no passphrase was typed")


def damaged(path):
    text = path.read_text()
    path.write_text(text[:40] + "?" + text[41:])


def test_files_that_are_no_such_key_are_one_line(bundle, keys, tmp_path, capsys):
    private, public = keys
    missing, text, broken = tmp_path / "missing.pem", tmp_path / "text.pem", tmp_path / "broken.pem"
    text.write_text("not a key")
    broken.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    rsa_pair = write_pair(tmp_path, "rsa", rsa.generate_private_key(65537, 2048))
    curve = write_pair(
        tmp_path, "ec", ec.generate_private_key(ec.SECP256R1()), encoding=PrivateFormat.TraditionalOpenSSL
    )
    ed448_pair = write_pair(tmp_path, "ed448", ed448.Ed448PrivateKey.generate())
    ssh = write_pair(tmp_path, "ssh", encoding=PrivateFormat.OpenSSH)
    (tmp_path / "id.pub").write_text("ssh-ed25519 AAAA someone@somewhere")
    large = tmp_path / "large.pem"
    large.write_bytes(bytes(200_000))
    cases = (
        ("--sign", missing, "cannot be read: No such file or directory"),
        ("--sign", tmp_path, "cannot be read: Is a directory"),
        ("--sign", text, "it is not PEM"),
        ("--sign", large, "it is not PEM"),
        ("--sign", broken, "it is damaged"),
        ("--sign", public, "it is a public key; give the private one"),
        ("--sign", rsa_pair[0], "it is of another type (RSA)"),
        ("--sign", curve[0], "it is of another type (E"),
        ("--sign", ed448_pair[0], "it is of another type (Ed448)"),
        ("--sign", ssh[0], "it is a key of OpenSSH, in OpenSSH's own format"),
        ("--key", missing, "cannot be read: No such file or directory"),
        ("--key", text, "it is not PEM"),
        ("--key", private, "it is a private key; give the public one, and keep this secret"),
        ("--key", rsa_pair[1], "it is of another type (RSA)"),
        ("--key", ed448_pair[1], "it is of another type (Ed448)"),
        ("--key", tmp_path / "id.pub", "it is a key of OpenSSH"),
    )
    for option, path, reason in cases:
        code, output = run(capsys, "export" if option == "--sign" else "verify", bundle, option, path)
        assert code == 2, (option, path)
        assert output.startswith(f"error: {option}: {path}"), output
        assert reason in output, output
    assert not (bundle / "SHA256SUMS.sig").exists()


def test_a_damaged_key_is_one_line(bundle, keys, capsys, tmp_path):
    for option, path, verb in (("--sign", "mine.pem", "export"), ("--key", "mine.public.pem", "verify")):
        damaged(tmp_path / path)
        assert f"error: {option}: " in run(capsys, verb, bundle, option, tmp_path / path)[1]


def test_other_users_who_may_read_the_key_are_warned_of(bundle, keys, tmp_path, capsys):
    (tmp_path / "mine.pem").chmod(0o644)
    code, output = run(capsys, "export", bundle, "--sign", keys[0])
    assert code == 0
    assert f"other users may read or change this private key; run: chmod 600 {keys[0]}" in output


def add_to_sums(bundle):
    with (bundle / "SHA256SUMS").open("a") as stream:
        stream.write(f"{'a' * 64}  more.txt\n")


def forge(bundle):
    """Change a file, and the sums with it."""
    (bundle / "predict.py").write_text("print('hello')")
    write_sums(bundle)


FORGERIES = {
    "no signature": (lambda bundle: (bundle / "SHA256SUMS.sig").unlink(), "is not signed (there is no SHA256SUMS.sig)"),
    "empty": (lambda bundle: (bundle / "SHA256SUMS.sig").write_bytes(b""), "expected 64 bytes, received 0"),
    "long": (lambda bundle: (bundle / "SHA256SUMS.sig").write_bytes(bytes(65)), "expected 64 bytes, received 65"),
    "zeros": (lambda bundle: (bundle / "SHA256SUMS.sig").write_bytes(bytes(64)), "is not a signature of SHA256SUMS"),
    "sums": (add_to_sums, "is not a signature of SHA256SUMS by the key"),
    "forged": (forge, "is not a signature of SHA256SUMS by the key"),
    "one more file": (
        lambda bundle: (bundle / "numpy.py").write_text(""),
        "numpy.py; the signature covers only listed files",
    ),
    "a file": (lambda bundle: (bundle / "labels.json").write_text("{}"), "labels.json was changed or damaged"),
    "no sums": (lambda bundle: (bundle / "SHA256SUMS").unlink(), "SHA256SUMS cannot be read: No such file"),
}


@pytest.mark.parametrize(("change", "reason"), FORGERIES.values(), ids=FORGERIES)
def test_what_is_not_signed_is_refused(bundle, keys, capsys, change, reason):
    assert run(capsys, "export", bundle, "--sign", keys[0])[0] == 0
    change(bundle)
    code, output = run(capsys, "verify", bundle, "--key", keys[1])
    assert code == 1
    assert "error: not verified: " in output
    assert reason in output


def test_the_signature_of_another_key_is_refused(bundle, keys, tmp_path, capsys):
    other = write_pair(tmp_path, "other")
    assert run(capsys, "export", bundle, "--sign", other[0])[0] == 0
    code, output = run(capsys, "verify", bundle, "--key", keys[1])
    assert code == 1
    assert "was changed after it was signed, or somebody else signed it" in output


def test_a_damaged_bundle_is_not_signed(bundle, keys, capsys):
    (bundle / "notes.txt").write_text("mine")
    code, output = run(capsys, "export", bundle, "--sign", keys[0])
    assert code == 1
    assert "not signed" in output
    assert "1 file is not listed in SHA256SUMS, so not checked: notes.txt; remove it or export again" in output
    (bundle / "notes.txt").unlink()
    (bundle / "labels.json").write_text("{}")
    code, output = run(capsys, "export", bundle, "--sign", keys[0])
    assert code == 1
    assert "not signed" in output
    assert "labels.json was changed or damaged" in output
    assert not (bundle / "SHA256SUMS.sig").exists()


def test_without_cryptography_the_message_says_what_to_install(bundle, keys, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for verb, option, key in (("export", "--sign", keys[0]), ("verify", "--key", keys[1])):
        assert run(capsys, verb, bundle, option, key) == (
            2,
            f"error: {option} needs the package cryptography, which is not installed: pip install '.[sign]' in a "
            "checkout, otherwise pip install 'keras-bench[sign]'",
        )
    assert run(capsys, "verify", bundle)[0] == 0
