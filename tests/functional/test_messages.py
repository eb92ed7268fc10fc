"""What losses say of arguments that are none: the argument, the rule, the value and the way out."""

import math

import pytest
import torch

from smoothmax import functional
from smoothmax.nn import AdaFaceHead, CosineHead, MagFaceHead, ProxyAnchorHead, SoftTripleHead

pytestmark = pytest.mark.plain
X, W, CENTRES = torch.randn(4, 3), torch.randn(5, 3), torch.randn(5, 2, 3)
Y, S = torch.tensor([0, 1, 2, 3]), torch.randn(4, 5)
SCALE, BOTH = {"scale": 2.0}, {"scale": 2.0, "margin": 0.1}

#: Losses by the tensors they take, with the numbers they need.
OF_SCORES = (
    "softmax_cross_entropy",
    "max_loss",
    "multiclass_hinge",
    "lse_hinge",
    "softplus_lse",
    "correctness",
)
OF_PROTOTYPES = {
    "linear_cross_entropy": {},
    "normface": SCALE,
    "cosface": BOTH,
    "arcface": BOTH,
    "sphereface": {"scale": 2.0, "margin": 1.2},
    "combined_margin": {"scale": 2.0, "margins": (1.0, 0.1, 0.0)},
    "magface": {},
    "adaface": {"mean": 1.0, "std": 1.0},
    "proxy_nca": SCALE,
    "proxy_anchor": BOTH,
}
OF_CENTRES = {"sub_center": BOTH, "soft_triple": BOTH | {"sharpness": 1.0}}
OF_LABELS = {"supcon": SCALE, "nca": SCALE, "circle": BOTH, "lifted": BOTH, "triplet": BOTH}
OF_LISTS = {
    "ranknet": {},
    "lambda_loss": {},
    "approx_ndcg": SCALE,
    "smooth_ap": SCALE,
    "smooth_recall": {"k": 1, "scale": 2.0},
}
OF_FEATURES = {"ring_loss": (1.0,), "l2_constrained": (), "feature_incay": (torch.ones(4, dtype=torch.bool),)}
AS_TENSOR = r"^`\w+` must be a torch.Tensor, got \w+. Use torch.as_tensor\(\w+\).$"


def calls(names, *tensors):
    """Each loss with each of its tensors replaced by a list and by an array."""
    for name, options in names.items():
        for i in range(len(tensors)):
            for other in (tensors[i].tolist(), tensors[i].numpy()):
                given = [*tensors[:i], other, *tensors[i + 1 :]]
                yield pytest.param(name, given, options, id=f"{name}-{i}-{type(other).__name__}")


@pytest.mark.parametrize(
    ("name", "given", "options"),
    [
        *calls({name: {} for name in OF_SCORES}, S, Y),
        *calls(OF_PROTOTYPES | {"lse_and_target": {}}, X, W, Y),
        *calls(OF_CENTRES, X, CENTRES, Y),
        *calls(OF_LABELS, X, Y),
        *calls({"info_nce": SCALE, "nt_xent": SCALE, "n_pair": {}}, X, X),
        *calls({"triplet_margin": {"margin": 0.1}}, X, X, X),
        *calls(OF_LISTS, S, (S > 0).long()),
        *calls({"distillation": {"temperature": 2.0}}, S, S),
        *calls({"z_loss": {}}, S),
        *calls({"soft_cap": {"cap": 2.0}}, S),
    ],
)
def test_lists_and_arrays_are_told_to_become_tensors(name, given, options):
    with pytest.raises(TypeError, match=AS_TENSOR):
        getattr(functional, name)(*given, **options)


@pytest.mark.parametrize(
    "call",
    [
        lambda: functional.softmax_cross_entropy(S, Y, weight=[1.0] * 5),
        lambda: functional.softplus_lse(S, Y, weight=[1.0] * 5),
        lambda: functional.normface(X, W, Y, scale=2.0, weight=[1.0] * 5),
        lambda: functional.normface(X, W, Y, scale=2.0, prior=[1.0] * 5),
        lambda: functional.normface(X, W, S.softmax(1), scale=2.0, prior=[1.0] * 5),
        lambda: functional.linear_cross_entropy(X, W, Y, bias=[1.0] * 5),
        lambda: functional.linear_cross_entropy(X, W, S.softmax(1), bias=[1.0] * 5),
        lambda: functional.feature_incay(X, [True] * 4),
        lambda: CosineHead(3, 5, scale=2.0)(X.tolist(), Y),
        lambda: CosineHead(3, 5, scale=2.0)(X, Y.tolist()),
        lambda: AdaFaceHead(3, 5)(X.numpy(), Y),
        lambda: AdaFaceHead(3, 5)(X, Y.numpy()),
        lambda: MagFaceHead(3, 5)(X.tolist(), Y),
        lambda: ProxyAnchorHead(3, 5)(X.tolist(), Y),
    ],
)
def test_so_are_weights_priors_and_what_heads_are_given(call):
    with pytest.raises(TypeError, match=AS_TENSOR):
        call()


@pytest.mark.parametrize("name", OF_PROTOTYPES)
@pytest.mark.parametrize("shape", [(0, 3), (5, 0)], ids=str)
def test_no_class_and_no_feature_are_refused_also_for_an_empty_batch(name, shape):
    for rows in (4, 0):
        x, w, y = torch.randn(rows, shape[1]), torch.randn(*shape), Y[:rows]
        with pytest.raises(ValueError, match=r"`prototypes` must hold at least one class of at least one"):
            getattr(functional, name)(x, w, y, **OF_PROTOTYPES[name])


@pytest.mark.parametrize("name", OF_CENTRES)
def test_no_centre_is_refused(name):
    with pytest.raises(ValueError, match=r"one feature, got shape \(5, 0, 3\). A batch may be empty"):
        getattr(functional, name)(X, torch.randn(5, 0, 3), Y, **OF_CENTRES[name])


@pytest.mark.parametrize("name", [*OF_SCORES, "z_loss", "distillation"])
def test_scores_without_a_class_and_without_a_dim_are_refused(name):
    function, options = getattr(functional, name), {"temperature": 1.0} if name == "distillation" else {}
    for scores, target in ((S[:, :0], Y), (S[:0, :0], Y[:0]), (torch.tensor(1.0), Y[0])):
        given = {"z_loss": (scores,), "distillation": (scores, scores)}.get(name, (scores, target))
        with pytest.raises(ValueError, match=r"must hold .* got shape"):
            function(*given, **options)


@pytest.mark.parametrize("name", OF_FEATURES)
def test_a_number_is_no_row_of_features(name):
    options = {"scale": 2.0} if name == "l2_constrained" else {}
    with pytest.raises(ValueError, match=r"`features` must be rows, .* got a single number"):
        getattr(functional, name)(torch.tensor(1.0), *OF_FEATURES[name], **options)


@pytest.mark.parametrize("smoothing", [True, "a", None, 1j, torch.tensor(0.1)], ids=str)
def test_smoothing_is_a_number(smoothing):
    for call in (
        lambda: functional.softmax_cross_entropy(S, Y, label_smoothing=smoothing),
        lambda: functional.normface(X, W, Y, scale=2.0, label_smoothing=smoothing),
        lambda: CosineHead(3, 5, scale=2.0, label_smoothing=smoothing),
    ):
        with pytest.raises(TypeError, match=r"`label_smoothing` must be a number, got .*. Pass a float."):
            call()


@pytest.mark.parametrize("smoothing", [-0.1, 1.1, math.nan, math.inf])
def test_smoothing_lies_between_0_and_1(smoothing):
    with pytest.raises(ValueError, match=r"`label_smoothing` must be "):
        functional.softmax_cross_entropy(S, Y, label_smoothing=smoothing)


@pytest.mark.parametrize("dtype", [torch.bool, torch.complex64], ids=str)
@pytest.mark.parametrize(
    "call",
    [
        lambda k: functional.softmax_cross_entropy(S, Y, scale=k),
        lambda k: functional.softmax_cross_entropy(S, Y, margin=k),
        lambda k: functional.softplus_lse(S, Y, scale=k),
        lambda k: functional.multiclass_hinge(S, Y, margin=k),
        lambda k: functional.normface(X, W, Y, scale=k),
        lambda k: functional.cosface(X, W, Y, scale=2.0, margin=k),
        lambda k: functional.arcface(X, W, Y, scale=2.0, margin=k),
        lambda k: functional.supcon(X, Y, scale=k),
        lambda k: functional.info_nce(X, X, temperature=k),
        lambda k: functional.circle(X, Y, scale=2.0, margin=k),
        lambda k: functional.distillation(S, S, temperature=k),
        lambda k: functional.ranknet(S, S, scale=k),
        lambda k: functional.ring_loss(X, k),
        lambda k: functional.l2_constrained(X, scale=k),
    ],
)
def test_knobs_of_bool_and_complex_tensors_are_refused(call, dtype):
    with pytest.raises(TypeError, match=rf"`\w+` must be real numbers, got {dtype}. Convert it"):
        call(torch.ones(4, dtype=dtype))


@pytest.mark.parametrize("name", OF_LABELS)
def test_a_labelled_batch_is_a_matrix(name):
    for x in (X[None], X[0]):
        with pytest.raises(
            ValueError, match=r"`input` must be \(rows, features\), got .* Flatten other dims"
        ):
            getattr(functional, name)(x, Y, **OF_LABELS[name])


@pytest.mark.parametrize("kind", [ProxyAnchorHead, SoftTripleHead, AdaFaceHead])
def test_heads_name_the_target_that_does_not_fit(kind):
    head = kind(3, 5)
    with pytest.raises(ValueError, match=r"`target` must have shape \(2, 4\), got \(4,\)"):
        head(torch.randn(2, 4, 3), Y)
    with pytest.raises(TypeError, match=r"`target` must be class indices, got torch.float32"):
        head(X, S.softmax(1))
    with pytest.raises(ValueError, match=r"must have the same number of features, got shapes \(4, 2\)"):
        head(X[:, :2], Y)


def test_proxy_anchor_takes_a_matrix_of_features():
    with pytest.raises(ValueError, match=r"`input` must be \(rows, features\), got scores \(2, 4, 5\)"):
        ProxyAnchorHead(3, 5)(torch.randn(2, 4, 3), torch.zeros(2, 4, dtype=torch.int64))
