"""The verb `export`: checked ONNX bundles of a finished run."""

import argparse
from pathlib import Path

from keras_bench.cli.options import Verbs, add_exports, add_verb, at_least
from keras_bench.errors import UserError
from keras_bench.phases import PHASES


def add_to(verbs: Verbs) -> None:
    """Add the verb and its options."""
    parser = add_verb(
        verbs,
        "export",
        handle,
        "export a finished run as a verified ONNX bundle",
        "Convert a finished run to ONNX, compare it with Keras on the test images, and write the bundle.",
        "Example: keras-bench export runs/demo/MobileNetV3Small/seed0 --phase ft",
    )
    add = parser.add_argument
    run = "folder of a finished run: runs/<experiment>/<model>/seed<k>; with --sign, a finished bundle is accepted too"
    add("run", type=Path, help=run)
    add(
        "--phase",
        choices=PHASES,
        help="phase to export (default: the final phase; every phase if the run has export.phases=all)",
    )
    add("--data", type=Path, help="folder or zip of images (default: where the run found them)")
    add_exports(parser)
    add("--verify-limit", type=int, metavar="N", help="number of test images to compare (default: all)")
    add("--no-int8", action="store_true", help="make no 8-bit version")
    sign = (
        "sign the bundles with this private Ed25519 key, PEM (needs keras-bench[sign]); its passphrase, if it has one, "
    )
    sign += "is asked for or read from $KERAS_BENCH_KEY_PASSPHRASE"
    add("--sign", type=Path, metavar="KEY.pem", help=sign)


def handle(arguments: argparse.Namespace) -> int:
    """Export one phase, or those that the run's configuration asks for."""
    from keras_bench.bundle.sums import SUMS
    from keras_bench.console import Log
    from keras_bench.export.phases import export_run, refuse_damaged_run
    from keras_bench.export.places import bundle_name, phases_to_export
    from keras_bench.export.signing import load_private_key, sign_bundle
    from keras_bench.report.write import card_writer
    from keras_bench.runs.folders import RunDir
    from keras_bench.runs.job import job_of_run

    changes: dict[str, object] = {"int8": False} if arguments.no_int8 else {}
    if arguments.verify_limit is not None:
        changes["verify_images"] = at_least("--verify-limit", arguments.verify_limit, 1)
    log = Log()
    key = None
    if arguments.sign is not None:
        key = load_private_key(arguments.sign, log)
        if (arguments.run / SUMS).is_file():
            sign_bundle(arguments.run, key, log)
            return 0
    refuse_damaged_run(RunDir(arguments.run))
    job = job_of_run(RunDir(arguments.run), arguments.data, arguments.exports, changes)
    if arguments.phase and arguments.phase not in job.phases:
        raise UserError(f"--phase: {arguments.run} has {' and '.join(job.phases)}, not {arguments.phase}")
    phases = [arguments.phase] if arguments.phase else phases_to_export(job)
    export_run(job, phases, card_writer(job, log), log)
    if key is not None:
        for phase in phases:
            sign_bundle(job.exports / bundle_name(job, phase), key, log)
    return 0
