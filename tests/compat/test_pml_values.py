"""Equal to pytorch-metric-learning 2.9 on ordinary inputs, with miners, references and checkpoints."""

import io

import pytest
import torch
from _pml import CLASSES, FEATURES, LABELS, check_same, rows, same_pair
from pytorch_metric_learning import distances, losses, miners, reducers, regularizers

from smoothmax.compat import pml

SIZE = {"num_classes": CLASSES, "embedding_size": FEATURES}
WITH_CLASSES = [
    ("NormalizedSoftmaxLoss", {}),
    ("NormalizedSoftmaxLoss", {"temperature": 0.3}),
    ("CosFaceLoss", {}),
    ("CosFaceLoss", {"margin": 0.1, "scale": 9}),
    ("ArcFaceLoss", {}),
    ("ArcFaceLoss", {"margin": 60, "scale": 10}),
    ("SubCenterArcFaceLoss", {}),
    ("SubCenterArcFaceLoss", {"margin": 10, "scale": 8, "sub_centers": 2}),
    ("SphereFaceLoss", {}),
    ("SphereFaceLoss", {"margin": 2, "scale": 0.5}),
    ("LargeMarginSoftmaxLoss", {}),
    ("LargeMarginSoftmaxLoss", {"margin": 3, "scale": 0.25}),
    ("ProxyNCALoss", {}),
    ("ProxyNCALoss", {"softmax_scale": 3}),
    ("ProxyAnchorLoss", {}),
    ("ProxyAnchorLoss", {"margin": 0.3, "alpha": 8}),
    ("SoftTripleLoss", {}),
    ("SoftTripleLoss", {"centers_per_class": 3, "la": 7, "gamma": 0.4, "margin": 0.1}),
]
OF_PAIRS = [
    ("NTXentLoss", {}),
    ("NTXentLoss", {"temperature": 0.5}),
    ("SupConLoss", {}),
    ("SupConLoss", {"temperature": 0.7}),
    ("NCALoss", {}),
    ("NCALoss", {"softmax_scale": 4}),
    ("CircleLoss", {}),
    ("CircleLoss", {"m": 0.25, "gamma": 20}),
    ("TripletMarginLoss", {}),
    ("TripletMarginLoss", {"margin": 0.3, "swap": True}),
    ("TripletMarginLoss", {"margin": 0.3, "smooth_loss": True}),
    ("TripletMarginLoss", {"swap": True, "smooth_loss": True}),
]


def ids(case):
    return "-".join([case[0], *map(str, case[1].values())])


with_classes = pytest.mark.parametrize("case", WITH_CLASSES, ids=ids)
of_pairs = pytest.mark.parametrize("case", OF_PAIRS, ids=ids)
MINERS = {
    "pairs": lambda x, y: miners.MultiSimilarityMiner(epsilon=-0.4)(x, y),
    "triplets": lambda x, y: miners.TripletMarginMiner(margin=0.4, type_of_triplets="all")(x, y),
    "nothing": lambda x, y: tuple(torch.zeros(0, dtype=torch.int64) for _ in range(3)),
}


def classes_of(case):
    return same_pair(losses, case[0], **SIZE, **case[1])


@with_classes
def test_losses_with_class_weights_have_their_value_and_gradient(case):
    ours, theirs = classes_of(case)
    x = rows()
    check_same(ours(x, LABELS), theirs(x, LABELS), (x, *ours.parameters()), (x, *theirs.parameters()))


@with_classes
def test_logits_are_theirs(case):
    ours, theirs = classes_of(case)
    x = rows()
    torch.testing.assert_close(ours.get_logits(x), theirs.get_logits(x), rtol=1e-12, atol=1e-12)


@with_classes
@pytest.mark.parametrize("mine", MINERS.values(), ids=MINERS)
def test_a_miner_weighs_the_rows_as_theirs(case, mine):
    ours, theirs = classes_of(case)
    x = rows()
    mined = mine(x, LABELS)
    check_same(
        ours(x, LABELS, mined),
        theirs(x, LABELS, mined),
        (x, *ours.parameters()),
        (x, *theirs.parameters()),
    )


@with_classes
def test_positions_and_defaults_of_the_constructor_are_theirs(case):
    """Arguments by position, their defaults, the names of the parameters and their start."""
    name = case[0]
    torch.manual_seed(5)
    ours = getattr(pml, name)(CLASSES, FEATURES)
    torch.manual_seed(5)
    theirs = getattr(losses, name)(num_classes=CLASSES, embedding_size=FEATURES)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in theirs.state_dict().items()
    }
    for key, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value)
    for attribute in ("margin", "scale", "temperature", "softmax_scale", "alpha", "la", "gamma"):
        if hasattr(theirs, attribute):
            assert getattr(ours, attribute) == pytest.approx(getattr(theirs, attribute), rel=1e-12)


@with_classes
def test_checkpoints_load_both_ways(case):
    ours, theirs = classes_of(case)
    with torch.no_grad():
        for p in theirs.parameters():
            p.mul_(0.7).add_(0.1)
    buffer = io.BytesIO()
    torch.save(theirs.state_dict(), buffer)
    buffer.seek(0)
    assert ours.load_state_dict(torch.load(buffer, weights_only=True)) == theirs.load_state_dict(
        theirs.state_dict()
    )
    x = rows()
    torch.testing.assert_close(ours(x, LABELS), theirs(x, LABELS), rtol=1e-10, atol=1e-10)


@of_pairs
def test_losses_of_pairs_have_their_value_and_gradient(case):
    ours, theirs = same_pair(losses, case[0], **case[1])
    x = rows()
    check_same(ours(x, LABELS), theirs(x, LABELS), x, x)
    assert ours(x, LABELS) > 0


@of_pairs
@pytest.mark.parametrize("mine", MINERS.values(), ids=MINERS)
def test_the_pairs_and_triplets_of_a_miner_count_as_often_as_in_theirs(case, mine):
    ours, theirs = same_pair(losses, case[0], **case[1])
    x = rows()
    mined = mine(x, LABELS)
    check_same(ours(x, LABELS, mined), theirs(x, LABELS, mined), x, x)


@pytest.mark.parametrize("name", ["NTXentLoss", "SupConLoss", "CircleLoss", "TripletMarginLoss"])
def test_a_miners_choice_needs_no_labels(name):
    ours, theirs = same_pair(losses, name)
    x = rows()
    mined = MINERS["pairs"](x, LABELS)
    check_same(ours(x, indices_tuple=mined), theirs(x, indices_tuple=mined), x, x)


@pytest.mark.parametrize("case", [c for c in OF_PAIRS if "swap" not in c[1]], ids=ids)
def test_references_take_the_place_of_the_batch(case):
    ours, theirs = same_pair(losses, case[0], **case[1])
    x, r = rows(), rows(count=7)
    y = torch.tensor([0, 1, 2, 3, 0, 1, 5])
    given = {"ref_emb": r, "ref_labels": y}
    check_same(ours(x, LABELS, **given), theirs(x, LABELS, **given), (x, r), (x, r))
    mined = miners.MultiSimilarityMiner(epsilon=-0.4)(x, LABELS, r, y)
    check_same(ours(x, LABELS, mined, **given), theirs(x, LABELS, mined, **given), (x, r), (x, r))
    check_same(ours(x, LABELS, None, x, LABELS), theirs(x, LABELS, None, x, LABELS), x, x)


@pytest.mark.parametrize("case", [c for c in OF_PAIRS if "swap" not in c[1]], ids=ids)
@pytest.mark.parametrize("copied", ["rows", "labels", "both", "neither"])
def test_labels_that_are_one_object_mean_that_row_i_is_reference_i(case, copied):
    ours, theirs = same_pair(losses, case[0], **case[1])
    if copied == "labels" and case[0] == "TripletMarginLoss":
        pytest.skip("a row's distance to itself, a root, is 0 only within 1e-8")
    x = rows()
    r = rows() if copied in ("rows", "both") else x
    y = LABELS.clone() if copied in ("labels", "both") else LABELS
    torch.testing.assert_close(
        ours(x, LABELS, None, r, y), theirs(x, LABELS, None, r, y), rtol=1e-10, atol=1e-10
    )


DISTANCES = {
    "cosine": lambda: distances.CosineSimilarity(),
    "dot": lambda: distances.DotProductSimilarity(normalize_embeddings=False),
    "dot of unit rows": lambda: distances.DotProductSimilarity(),
    "euclidean": lambda: distances.LpDistance(),
    "squared": lambda: distances.LpDistance(power=2),
    "lengths": lambda: distances.LpDistance(normalize_embeddings=False),
    "squared lengths": lambda: distances.LpDistance(normalize_embeddings=False, power=2),
}


@pytest.mark.parametrize("distance", DISTANCES.values(), ids=DISTANCES)
@pytest.mark.parametrize("name", ["NTXentLoss", "SupConLoss", "NCALoss", "TripletMarginLoss"])
def test_distances_of_theirs_mean_the_same_here(name, distance):
    options = {"temperature": 2.0} if name in ("NTXentLoss", "SupConLoss") else {}
    ours, theirs = same_pair(losses, name, **options, distance=distance())
    x = rows()
    check_same(ours(x, LABELS), theirs(x, LABELS), x, x)


@pytest.mark.parametrize("distance", DISTANCES.values(), ids=DISTANCES)
def test_proxies_at_distances_of_theirs(distance):
    ours, theirs = same_pair(losses, "ProxyNCALoss", **SIZE, distance=distance())
    x = rows()
    check_same(ours(x, LABELS), theirs(x, LABELS), (x, ours.proxies), (x, theirs.proxies))
    torch.testing.assert_close(ours.get_logits(x), theirs.get_logits(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("reducer", [reducers.MeanReducer, reducers.AvgNonZeroReducer, reducers.SumReducer])
@pytest.mark.parametrize(
    "case",
    [("CosFaceLoss", SIZE), ("NTXentLoss", {}), ("CircleLoss", {}), ("TripletMarginLoss", {})],
    ids=ids,
)
def test_reducers_of_theirs_mean_the_same_here(case, reducer):
    ours, theirs = same_pair(losses, case[0], **case[1], reducer=reducer())
    x = rows()
    check_same(ours(x, LABELS), theirs(x, LABELS), x, x)


@pytest.mark.parametrize("name", ["ArcFaceLoss", "SubCenterArcFaceLoss", "ProxyNCALoss", "ProxyAnchorLoss"])
def test_regularizers_of_theirs_are_called_as_theirs(name):
    options = {"weight_regularizer": regularizers.LpRegularizer(), "weight_reg_weight": 2.0}
    ours, theirs = same_pair(losses, name, **SIZE, **options)
    x = rows()
    check_same(ours(x, LABELS), theirs(x, LABELS), (x, *ours.parameters()), (x, *theirs.parameters()))


def test_regularizers_and_initialisers_are_called_as_theirs():
    options = {
        "embedding_regularizer": regularizers.LpRegularizer(),
        "embedding_reg_weight": 0.3,
        "weight_regularizer": regularizers.RegularFaceRegularizer(),
        "weight_reg_weight": 2.0,
        "weight_init_func": torch.nn.init.orthogonal_,
    }
    ours, theirs = same_pair(losses, "ArcFaceLoss", **SIZE, **options)
    x = rows()
    check_same(ours(x, LABELS), theirs(x, LABELS), (x, ours.W), (x, theirs.W))
    gram = ours.W.T @ ours.W
    torch.testing.assert_close(gram, torch.eye(CLASSES, dtype=gram.dtype), rtol=0, atol=1e-6)


def test_outliers_and_dominant_centres_are_theirs():
    ours, theirs = same_pair(losses, "SubCenterArcFaceLoss", **SIZE)
    x, y = rows(count=60).detach(), torch.arange(60) % CLASSES
    outliers, centers = ours.get_outliers(x, y, threshold=60)
    their_outliers, their_centers = theirs.get_outliers(x, y, threshold=60)
    assert 0 < len(outliers) < 60
    assert torch.equal(outliers, their_outliers)
    torch.testing.assert_close(centers, their_centers)
    assert torch.equal(ours.get_outliers(x, y, 60, return_dominant_centers=False), outliers)


def test_a_memory_of_theirs_takes_a_loss_of_ours():
    memories = [losses.CrossBatchMemory(library.NTXentLoss(0.2), FEATURES, 30) for library in (pml, losses)]
    for step in range(4):
        x, y = rows(torch.float32), LABELS.roll(step)
        ours, theirs = (memory(x, y) for memory in memories)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
