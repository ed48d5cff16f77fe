"""Checks the dependencies: known vulnerabilities of the locked versions, and the licences of those installed.

`python .ci/security.py` exits with 1 for a known vulnerability or a licence that the policy does not allow. Without a
network, or from an index that has no advisories, it says in one line what was not checked, and exits with 0.
"""

import configparser
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
AUDIT_SECONDS = 300
RUNTIME_EXTRAS = ("tfds", "tensorboard", "search", "sign")  # `dev` is never shipped

# keras-bench is Apache-2.0, imports its dependencies unchanged and ships none of them. Permissive licences allow that,
# and so do weak copyleft ones, which bind only those who change the library itself. The GPL and AGPL would extend to
# programs that import the library, and a licence that is not stated allows nothing.
PERMISSIVE = ("apache", "mit", "bsd", "isc", "psf", "python-2.0", "python software foundation", "hpnd", "zlib", "0bsd",
              "unlicense", "cc0", "public domain", "blueoak", "mit-cmu", "cnri", "boost", "bsl-1.0")  # fmt: skip
WEAK_COPYLEFT = ("mpl", "mozilla public", "lgpl", "lesser general public")
FORBIDDEN = ("agpl", "affero", "sspl", "busl", "commercial", "proprietary", "elastic", "commons clause")


@dataclass(frozen=True)
class Vulnerability:
    """A known vulnerability: the package, its locked version, the advisory, and the versions that fix it."""

    package: str
    version: str
    advisory: str
    fixed: tuple[str, ...]


def audit(lock: Path) -> tuple[list[Vulnerability], str]:
    """Ask pip-audit about the locked versions.

    Returns:
        The vulnerabilities, and what was not checked and why; "" if everything was.
    """
    if importlib.util.find_spec("pip_audit") is None:
        return [], "vulnerabilities were not checked: pip-audit is not installed (`make setup` installs it)"
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--disable-pip", "--require-hashes"]
    command += ["--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=AUDIT_SECONDS)
    except subprocess.TimeoutExpired:
        return [], f"vulnerabilities were not checked: no answer within {AUDIT_SECONDS} s"
    return read_audit(done.stdout, done.stderr)


def read_audit(output: str, errors: str) -> tuple[list[Vulnerability], str]:
    """Return what pip-audit found, and what it did not check.

    It reports "no known vulnerabilities", and exits with 0, if the index knows none of the packages; with 1 both for a
    vulnerability and for a broken connection. So neither is trusted, only its JSON.
    """
    try:
        packages = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        lines = [line.strip() for line in errors.splitlines() if line.strip()]
        return [], f"vulnerabilities were not checked: {lines[-1][:200] if lines else 'pip-audit printed nothing'}"
    found = [
        Vulnerability(package["name"], package["version"], vulnerability["id"], tuple(vulnerability["fix_versions"]))
        for package in packages
        for vulnerability in package.get("vulns", [])
    ]
    skipped = [package for package in packages if "skip_reason" in package]
    if len(skipped) == len(packages):
        return found, "vulnerabilities were not checked: the package index here answers no questions about advisories"
    names = ", ".join(package["name"] for package in skipped[:5]) + (", …" if len(skipped) > 5 else "")
    return found, f"{len(skipped)} of {len(packages)} packages were not checked: {names}" if skipped else ""


def runtime_requirements() -> list[Requirement]:
    """Return the requirements of setup.cfg that a user of the package installs, with every extra except `dev`."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = setup["options.extras_require"]
    lines = [setup["options"]["install_requires"], *(extras[name] for name in RUNTIME_EXTRAS)]
    return [Requirement(line) for text in lines for line in text.splitlines() if line and not line.startswith("#")]


def installed_closure() -> Iterator[Distribution]:
    """Yield every installed package that the runtime requirements need on this platform, directly or not."""
    pending, seen = runtime_requirements(), set()
    while pending:
        requirement = pending.pop()
        key = (canonicalize_name(requirement.name), *sorted(requirement.extras))
        if key in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(key)
        try:
            package = distribution(requirement.name)
        except PackageNotFoundError:  # an extra that is not installed here
            continue
        yield package
        for text in package.requires or []:
            needed = Requirement(text)
            markers = [{"extra": extra} for extra in ("", *requirement.extras)]
            if needed.marker is None or any(needed.marker.evaluate(values) for values in markers):
                needed.marker = None
                pending.append(needed)


def licence_of(package: Distribution) -> str:
    """Return the licence that a package's metadata states, as an SPDX expression if it states one; "" if none."""
    metadata = package.metadata
    expression = metadata.get("License-Expression")
    classifiers = [
        line.rsplit(" :: ", 1)[-1] for line in metadata.get_all("Classifier") or [] if line.startswith("License :: ")
    ]
    text = (metadata.get("License") or "").strip().splitlines()
    stated = (
        expression or "; ".join(name for name in classifiers if name != "OSI Approved") or (text[0] if text else "")
    )
    return stated or _title_of_licence_file(package)


def _title_of_licence_file(package: Distribution) -> str:
    files = [file for file in package.files or [] if "dist-info" in file.parts[0] and "LICENSE" in file.name.upper()]
    text = files[0].read_text("utf-8")[:2000] if files else ""
    title = re.search(r"(GNU \w+ )?\w+ (License|LICENSE)\b", text)
    return title[0] if title else ""


def is_allowed(licence: str) -> bool:
    """Return whether the policy allows a licence; of several that can be chosen from (OR), one is enough.

    Classifiers, which ";" separates, do not say whether one can choose, so all of them must be allowed.
    """
    classifiers = licence.lower().split(";")
    return all(any(map(_is_choice_allowed, re.split(r"\sor\s|/", classifier))) for classifier in classifiers)


def _is_choice_allowed(licence: str) -> bool:
    terms = [term.strip(" ()") for term in re.split(r"\band\b|,", licence)]
    return all(_is_term_allowed(term) for term in terms)


def _is_term_allowed(term: str) -> bool:
    if any(name in term for name in FORBIDDEN):
        return False
    if any(_names(term, name) for name in WEAK_COPYLEFT):
        return True
    if re.search(r"\bgpl|general public", term):
        return re.search(r"\bwith\b.*\bexception\b", term) is not None
    return any(_names(term, name) for name in PERMISSIVE)


def _names(term: str, name: str) -> bool:
    """Return whether a licence's name stands in a term as a word, which a version may follow: "lgplv3"."""
    return re.search(rf"(?<![a-z]){re.escape(name)}(?=v?\d|[^a-z]|$)", term) is not None


def main() -> int:
    """Print the licences and the vulnerabilities; return 1 if one must not stay."""
    licences = sorted(
        {(package.metadata["Name"], package.version, licence_of(package)) for package in installed_closure()}
    )
    for name, version, licence in licences:
        print(f"{name} {version}: {licence or 'no licence stated'}")
    refused = [name for name, _, licence in licences if not is_allowed(licence)]
    print(f"licences: {len(licences)} packages, {len(refused)} whose licence the policy in .ci/security.py refuses")
    vulnerabilities, unchecked = audit(LOCK)
    for found in vulnerabilities:
        remedy = f"fixed in {', '.join(found.fixed)}" if found.fixed else "no version fixes it yet"
        print(f"vulnerable: {found.package} {found.version}: {found.advisory}, {remedy}", file=sys.stderr)
    for name in refused:
        print(f"licence refused: {name}", file=sys.stderr)
    print(unchecked or f"vulnerabilities: {len(vulnerabilities)} known in {LOCK.name}")
    return 1 if vulnerabilities or refused else 0


if __name__ == "__main__":
    sys.exit(main())
