"""The sinks and callbacks with the real packages, where they are installed (the dev extra)."""

import json

import pytest
import torch
from torch import nn

from smoothmax.monitor import MLflow, Monitor, TensorBoard, WeightsAndBiases
from smoothmax.nn import CosineHead

pytestmark = pytest.mark.filterwarnings("ignore")


def need(package):
    return pytest.importorskip(package, reason=f"{package} comes with the dev extra")


def look(sink):
    monitor = Monitor([sink], every=1)
    torch.manual_seed(0)
    for _ in range(2):
        monitor(torch.randn(4, 5), torch.randint(5, (4,)), kind="logits")
    monitor.close()
    return monitor.numbers


class Model(nn.Module):
    """A layer and a head, as Transformers calls models: by name, and a dict back."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(6, 8), CosineHead(8, 5, scale=9.0)

    def forward(self, x, labels):
        return {"loss": self.head(self.layer(x), labels)}


class Rows(torch.utils.data.Dataset):
    """Thirty-two rows."""

    def __len__(self):
        return 32

    def __getitem__(self, i):
        generator = torch.Generator().manual_seed(i)
        return {"x": torch.randn(6, generator=generator), "labels": i % 5}


def test_tensorboard_gets_every_number(tmp_path):
    need("tensorboard")
    numbers = look(TensorBoard(tmp_path))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path)).Reload()
    for name, value in numbers.items():
        points = events.Scalars(name)
        assert [point.step for point in points] == [0, 1]
        assert points[-1].value == pytest.approx(value, rel=1e-6, nan_ok=True)


def test_wandb_gets_every_number(tmp_path, monkeypatch):
    wandb = need("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = wandb.init(mode="offline", dir=str(tmp_path), project="smoothmax")
    numbers = look(WeightsAndBiases())
    kept = dict(run.summary)
    run.finish()
    assert numbers.items() <= kept.items()
    with pytest.raises(ValueError, match="`run` must be a run of wandb"):
        WeightsAndBiases()


def test_mlflow_gets_every_number(tmp_path, monkeypatch):
    mlflow = need("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(tmp_path.as_uri())
    mlflow.set_experiment("smoothness")
    with pytest.raises(ValueError, match="`run_id` must name a run"):
        MLflow()
    with mlflow.start_run() as run:
        numbers = look(MLflow())
    stored = mlflow.MlflowClient().get_run(run.info.run_id).data
    assert stored.metrics == {name.replace("%", "pct"): value for name, value in numbers.items()}
    assert "smoothness.verdict" in stored.tags


def test_lightning_watches_the_head_of_a_module(tmp_path):
    pl = need("lightning.pytorch")
    from smoothmax.monitor.lightning import SmoothnessCallback

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = Model()

        def training_step(self, batch, index):
            return self.model(**batch)["loss"]

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    callback = SmoothnessCallback(Monitor(every=2))
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = pl.Trainer(
        max_epochs=1, callbacks=[callback], default_root_dir=tmp_path, accelerator="cpu", **quiet
    )
    trainer.fit(Module(), torch.utils.data.DataLoader(Rows(), batch_size=8))
    assert callback.monitor.steps == 4
    assert trainer.logged_metrics["smoothness/scale"].item() == 9.0
    assert callback.state_dict() == {"steps": 4}
    with pytest.raises(ValueError, match=r"`model` must hold one head of smoothmax\.nn, got none"):
        callback.on_train_start(trainer, pl.LightningModule())


def test_transformers_adds_the_numbers_to_its_logs(tmp_path):
    transformers = need("transformers")
    from smoothmax.monitor.transformers import SmoothnessCallback

    callback = SmoothnessCallback(Monitor(every=1))
    arguments = transformers.TrainingArguments(
        str(tmp_path),
        max_steps=4,
        logging_steps=2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
    )
    trainer = transformers.Trainer(Model(), arguments, train_dataset=Rows(), callbacks=[callback])
    trainer.train()
    logged = [record for record in trainer.state.log_history if "smoothness/scale" in record]
    assert len(logged) >= 2
    assert json.dumps(logged)
    assert callback.monitor.steps == 4
