"""A Hydra app that trains a linear classifier of handwritten digits, epoch by epoch; see README.md."""

import hydra
import numpy as np
from omegaconf import DictConfig
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

import besom


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def train(config: DictConfig) -> float:
    """Return the accuracy on the validation part after the last epoch."""
    inputs, labels = load_digits(return_X_y=True)
    train_x, val_x, train_y, val_y = train_test_split(inputs / 16, labels, random_state=config.seed)
    model = SGDClassifier(
        loss=config.loss, alpha=config.alpha, learning_rate="constant", eta0=config.lr, random_state=config.seed
    )
    accuracy = 0.0
    for epoch in range(1, config.epochs + 1):
        model.partial_fit(train_x, train_y, classes=np.unique(labels))
        accuracy = float(model.score(val_x, val_y))
        besom.report(accuracy, step=epoch)  # ends the job here if the pruner says so; does nothing outside a sweep
    print(f"accuracy {accuracy:.4f}")
    return accuracy


if __name__ == "__main__":
    train()
