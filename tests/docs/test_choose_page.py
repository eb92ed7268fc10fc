"""The page on choosing a scale: every question is answered by code that runs, every number is right."""

import math
import re
from pathlib import Path

import pytest
import torch

import smoothmax as sm

PAGE = (Path(__file__).parents[2] / "docs" / "choose.md").read_text()

#: What people ask about choosing a scale: repository and number.
QUESTIONS = [
    "KevinMusgrave/pytorch-metric-learning/issues/186",
    "KevinMusgrave/pytorch-metric-learning/issues/530",
    "KevinMusgrave/pytorch-metric-learning/issues/351",
    "KevinMusgrave/pytorch-metric-learning/issues/209",
    "deepinsight/insightface/issues/652",
    "deepinsight/insightface/issues/1153",
    "deepinsight/insightface/issues/273",
    "deepinsight/insightface/issues/1950",
    "ZhaoJ9014/face.evoLVe/issues/30",
    "ronghuaiyang/arcface-pytorch/issues/38",
    "ronghuaiyang/arcface-pytorch/issues/99",
    "liuyoude/STgram-MFN/issues/12",
    "auroua/InsightFace_TF/issues/56",
    "juanmc2005/SimilarityLearning/issues/22",
    "MuggleWang/CosFace_pytorch/issues/4",
    "xialuxi/arcface-caffe/issues/50",
    "huggingface/sentence-transformers/issues/2770",
    "huggingface/sentence-transformers/issues/3054",
    "huggingface/sentence-transformers/issues/3179",
    "huggingface/sentence-transformers/issues/3518",
    "google-research/simclr/issues/37",
    "lightonai/pylate/pull/115",
]


@pytest.fixture(scope="module")
def names():
    """The names that the page's code makes, run from top to bottom."""
    found = {
        "sm": sm,
        "torch": torch,
        "math": math,
        "features": torch.randn(64, 512),
        "target": torch.randint(10575, (64,)),
        "head": sm.nn.CosineHead(512, 10575, scale=14.0),
        "num_classes": 10575,
        "epochs": 2,
        "loader": [1] * 9,
    }
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        exec(compile(block, "choose.md", "exec"), found)
    return found


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_is_quoted_and_answered_by_code_with_a_number(question):
    sections = re.split(r"\n(?=\*\*\[|#)", PAGE)
    # Two questions may share an answer: the link of the second follows the first.
    (section,) = [text for text in sections if f"https://github.com/{question})" in text]
    code = re.findall(r"```python\n(.*?)```", section, re.S)
    assert len(code) == 1
    assert re.search(r"\S\s+# -?\d", code[0])
    answer = section.rpartition("```")[2].strip()
    assert 30 < len(answer) < 400


def test_every_claimed_number_is_right(names):
    claims = re.findall(r"^([^#\n]*\S)\s+# \(?(-?\d[\d.]*)(?:, (-?\d[\d.]*))?", PAGE, re.M)
    assert len(claims) > 50
    for expression, *shown in claims:
        value = eval(expression, names)
        values = value if isinstance(value, tuple) else (value,)
        for number, claim in zip(values, filter(None, shown), strict=False):
            digits = len(claim.rstrip(".").partition(".")[2])
            assert f"{number:.{digits}f}" == claim.rstrip("."), expression


def test_every_comparison_is_true(names):
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.S))
    comparisons = re.findall(r"^\S.* (?:<|==|>) .*$", code, re.M)
    assert len(comparisons) >= 5
    for expression in comparisons:
        assert eval(expression, names) is True, expression


def test_what_the_text_says_is_so():
    """Numbers in sentences."""
    assert f"{sm.loss_floor(10_575, 1.0):.2f} nats, of {math.log(10_575):.2f}" in " ".join(PAGE.split())
    assert sm.recommended_scale(10**25) == pytest.approx(64, abs=2)
    step = sm.recommended_scale(10**6) - sm.recommended_scale(10**5)
    assert f"{step:.1f} for each tenfold number of classes" in " ".join(PAGE.split())
    assert sm.recommended_scale(8191) == pytest.approx(1 / 0.07, rel=0.06)
    assert sm.scale_window(85_742, 512).high == 64 / 2
