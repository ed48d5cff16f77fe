"""The lock file fits setup.cfg, and what `make security` says about vulnerabilities and licences."""

import configparser
import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
SPECIFICATION = importlib.util.spec_from_file_location("security", ROOT / ".ci" / "security.py")
security = importlib.util.module_from_spec(SPECIFICATION)
sys.modules["security"] = security  # its dataclasses look themselves up there
SPECIFICATION.loader.exec_module(security)

PYTHONS = ("3.11", "3.12", "3.13")


def locked():
    """Return the pinned requirements of the lock and their hashes."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    lines = re.sub(r" \\\n +", " ", text).splitlines()
    entries = [line for line in lines if line and not line.lstrip().startswith("#")]
    return [(Requirement(line.split(" --hash=")[0]), re.findall(r"--hash=sha256:(\S+)", line)) for line in entries]


def required():
    """Return every requirement of setup.cfg, of all extras."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    texts = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    return [Requirement(line) for text in texts for line in text.splitlines() if line and not line.startswith("#")]


def test_every_locked_package_has_one_version_and_the_hashes_of_its_files():
    for pin, hashes in locked():
        assert re.fullmatch(r"==[\w.+!]+", str(pin.specifier)), pin
        assert hashes, pin
        assert all(re.fullmatch("[0-9a-f]{64}", value) for value in hashes)


def test_the_lock_names_no_index_and_no_folder():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"://|index|find-links|file:|(?<![\w(])/\w", text)


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_satisfies_every_range_of_setup(python):
    environment = {"python_version": python, "python_full_version": f"{python}.9"}
    environment |= {"sys_platform": "linux", "platform_machine": "x86_64", "platform_system": "Linux"}
    versions: dict[str, list[str]] = {}
    for pin, _ in locked():
        if pin.marker is None or pin.marker.evaluate(environment):
            versions.setdefault(canonicalize_name(pin.name), []).append(next(iter(pin.specifier)).version)
    assert {name: found for name, found in versions.items() if len(found) != 1} == {}
    for requirement in required():
        (version,) = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement}: the lock has {version}; run `make lock`"


def report(*packages):
    return json.dumps({"dependencies": list(packages), "fixes": []})


CLEAN = {"name": "numpy", "version": "2.4.6", "vulns": []}
BAD = {"name": "pillow", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.0"], "aliases": []}]}
SKIPPED = {"name": "wheel", "skip_reason": "Dependency not found on PyPI and could not be audited: wheel (0.48.0)"}


def test_an_audit_that_checked_nothing_is_not_called_clean():
    """pip-audit itself ends with 0 and "No known vulnerabilities found" if the index knows no package."""
    assert security.read_audit(report(CLEAN), "") == ([], "")
    assert security.read_audit(report(SKIPPED, SKIPPED), "")[1].startswith("vulnerabilities were not checked: ")
    assert security.read_audit(report(CLEAN, SKIPPED), "")[1] == "1 of 2 packages were not checked: wheel"
    found, unchecked = security.read_audit(report(CLEAN, BAD), "Found 1 known vulnerability")
    assert found == [security.Vulnerability("pillow", "1.0", "PYSEC-1", ("2.0",))]
    assert unchecked == ""
    for output, errors in (("", "Traceback\nConnectionError: no network\n"), ("{}", ""), ("", "")):
        found, unchecked = security.read_audit(output, errors)
        assert found == []
        assert re.match(r"vulnerabilities were not checked: .+$", unchecked)


def run(monkeypatch, audited):
    monkeypatch.setattr(security, "audit", lambda lock: audited)
    return security.main()


def test_only_what_was_found_fails(monkeypatch, capsys):
    assert run(monkeypatch, ([], "vulnerabilities were not checked: no network")) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "vulnerabilities were not checked: no network"
    assert run(monkeypatch, ([], "")) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "vulnerabilities: 0 known in requirements.lock"
    assert run(monkeypatch, ([security.Vulnerability("pillow", "1.0", "PYSEC-1", ("2.0",))], "")) == 1
    assert "vulnerable: pillow 1.0: PYSEC-1, fixed in 2.0" in capsys.readouterr().err


def test_without_pip_audit_the_vulnerabilities_are_not_checked(monkeypatch):
    monkeypatch.setitem(sys.modules, "pip_audit", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip-audit is not installed" in security.audit(security.LOCK)[1]


def test_every_package_that_a_user_installs_has_a_licence_that_the_policy_allows():
    packages = {package.metadata["Name"]: security.licence_of(package) for package in security.installed_closure()}
    assert {"tensorflow", "keras", "numpy", "h5py", "pillow"} <= set(packages)
    assert {name: licence for name, licence in packages.items() if not security.is_allowed(licence)} == {}


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("MIT-0", True),
        ("3-Clause BSD License", True),
        ("Apache Software License", True),
        ("BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0", True),
        ("Mozilla Public License 2.0 (MPL 2.0)", True),
        ("GNU Lesser General Public License v3 (LGPLv3)", True),
        ("GPL-3.0-only OR MIT", True),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-2.0-or-later", False),
        ("GNU General Public License v3 (GPLv3)", False),
        ("GNU Affero General Public License v3", False),
        ("AGPL-3.0", False),
        ("BUSL-1.1", False),
        ("Free for non-commercial use", False),
        ("Proprietary", False),
        ("limited", False),
        ("GNU Affero General Public License v3; Python Software Foundation License", False),
        ("MIT License; Python Software Foundation License", True),
        ("GPL-3.0-or-later WITH GCC-exception-3.1", True),
        ("custom exception", False),
        ("Mitchell Custom", False),
        ("iscool", False),
        ("simple", False),
        ("", False),
    ],
)
def test_the_policy(licence, allowed):
    assert security.is_allowed(licence) is allowed
