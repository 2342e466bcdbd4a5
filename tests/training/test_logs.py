from guardlib.training.logs import RunLog


def test_a_new_run_leaves_no_curves_of_an_older_one_and_a_resumed_one_keeps_them(tmp_path):
    events = tmp_path / "tensorboard"
    RunLog(tmp_path, [], []).close()
    first = set(events.iterdir())
    RunLog(tmp_path, [], [{"step": 10, "loss": 1.0}]).close()
    assert first < set(events.iterdir())
    RunLog(tmp_path, [], []).close()
    assert len(list(events.iterdir())) == 1


def test_without_a_folder_it_remembers_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = RunLog(None, [], [])
    log.step({"step": 10, "tokens": 5, "loss": 1.0})
    log.validation({"step": 10, "val_loss": 0.5})
    assert log.close()["val_loss"].tolist() == [0.5]
    assert not list(tmp_path.iterdir())
