"""Requirements of a guidance: conditions, models and data range."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """Requirements of a guidance, declared by its class as ``requires``.

    Arguments:
        labels: labels of the samples.
        conditional_model: a model that was trained with conditions, and conditions of the samples.
        unconditional_model: predictions of the model without conditions.
        label_argument: name of the constructor's argument that passes the label to the model, which then needs no
            predictions without; empty if there is none.
        weak_model: a weaker model of the same data, as the argument ``weak``.
        classifier: a classifier of noisy samples, as the argument ``classifier``.
        data_range: smallest and largest value of the data in model space, as the arguments ``low`` and ``high``.
    """

    labels: bool = False
    conditional_model: bool = False
    unconditional_model: bool = False
    label_argument: str = ""
    weak_model: bool = False
    classifier: bool = False
    data_range: bool = False
