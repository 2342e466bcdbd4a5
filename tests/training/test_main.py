"""The command line of training in several processes."""

from guardlib.training.__main__ import main


def test_a_missing_dataset_is_named_with_the_command_that_makes_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GUARDLIB_HOME", str(tmp_path))
    assert main(["--profile", "smoke"]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "artifacts" / "smoke" / "01_data" / "train.parquet") in error
    assert "run: python run_all.py --profile smoke --only 01" in error
