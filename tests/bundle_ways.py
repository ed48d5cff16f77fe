"""Every way to use a bundle, and the one line of those that refuse it."""

from keras_bench.cli.main import main


def ways(bundle, photo, own_main):
    """Every way to use a bundle, by name."""
    return {
        "verify": lambda: main(["verify", str(bundle)]),
        "predict": lambda: main(["predict", str(bundle), photo]),
        "predict.py": lambda: own_main([photo], bundle),
        "predict --int8": lambda: main(["predict", str(bundle), photo, "--int8"]),
        "predict.py --int8": lambda: own_main([photo, "--int8"], bundle),
        "predict.py --verify": lambda: own_main(["--verify"], bundle),
    }


def refusal(capsys, way, code):
    """Run a way that must fail, and return its only line."""
    assert way() == code
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    assert "%" not in captured.out  # no prediction
    return line
