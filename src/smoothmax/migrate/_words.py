"""Why each case matters and what to do where it fails, by the name of its row."""

_CLAMP = (
    "Keep cosines away from +-1 before acos or sqrt(1 - c^2), in float32 by about 1e-7, or take a head of "
    "smoothmax.nn."
)
_FLOAT32 = (
    "Keep class weights in float32 and cast the embeddings before the loss: loss(embeddings.float(), labels)."
)

#: Why, what to do, where the class weights are cut off from the loss, whatever the row.
DETACHED = (
    "Class weights that no gradient reaches stay where they started: only the features learn.",
    "Look for detach, no_grad and .data on the class weights in forward, and for requires_grad=False.",
)

#: Name of the row: why, what to do.
WORDS = {
    "ordinary batch": (
        "Nothing else can be judged where this fails.",
        "See what the message says; check the scale, the dtype of labels and the constructor's arguments.",
    ),
    "cos = +1": (
        "A row that coincides with its class gets a nan gradient where acos or sqrt(1 - c^2) has an infinite "
        "slope; one such row makes a whole backbone nan in one step.",
        _CLAMP,
    ),
    "cos = -1": ("A row opposite to its class meets the other infinite slope of acos.", _CLAMP),
    "zero row": (
        "Dead units and padding give rows of zeros; x/|x| without an eps makes the whole batch nan.",
        "Normalise with torch.nn.functional.normalize, or guard the length.",
    ),
    "batch of one": (
        "The last batch of an epoch can have one row; the standard deviation of one value is nan, and in a "
        "running mean it stays.",
        "Use drop_last=True, or leave the statistic as it is when a batch has one row.",
    ),
    "empty batch": (
        "Filters and shards can leave no row; a mean over nothing is nan, as F.cross_entropy has it, and so "
        "is every sum it enters.",
        "Skip empty batches, or divide a summed loss by max(1, rows).",
    ),
    "bfloat16 input": (
        "Backbones under autocast emit bfloat16, and the loss is often called outside the autocast block.",
        "Cast before the head: embeddings.float().",
    ),
    "float64 input": (
        "Tests and double-precision runs need it.",
        "Call module.double() first, or cast in the head to the wider of the two dtypes.",
    ),
    "bfloat16 autocast": (
        "bfloat16 keeps 8 bits: a cosine near 1 is off by 0.002 and more, at a scale of 64 an eighth of a "
        "nat and more.",
        "Switch autocast off around the head and compute it in float32.",
    ),
    "weights keep dtype": (
        "Class weights that take the dtype of a batch lose their digits for good.",
        _FLOAT32,
    ),
    "bfloat16 step": (
        "In bfloat16 a step below 1/512 of an entry rounds to nothing: the classes freeze.",
        _FLOAT32,
    ),
    "monotone target": (
        "Where the target function rises with the angle, a row further from its class has the smaller loss "
        "and is driven away.",
        "Continue the margin past pi - m by something that falls, or take a head of smoothmax.nn.",
    ),
    "continuous target": (
        "A gradient cannot see a jump: the loss of a row changes without notice as it crosses.",
        "Harmless while no row gets that far from its class; otherwise continue f from where it stops.",
    ),
    "slope = gradient": (
        "Where autograd and the loss disagree, training minimises something else than what is logged.",
        "Look for no_grad, detach, .data and in-place operations on cosines.",
    ),
    "no dead angles": (
        "Where the target function is flat, rows far from their class get no gradient and stay there.",
        "Replace the clamp by a continuation with a slope.",
    ),
    "scale and margin": (
        "Constructors accept scales and margins that cannot work; degrees, radians and cosine "
        "units get mixed up.",
        "Give a positive scale (smoothmax.scale_for computes one) and check the unit of the margin.",
    ),
    "learned scale": (
        "A learned scale without bounds ends at 0, below it, or at infinity.",
        "Learn its logarithm and bound it in forward.",
    ),
    "hard rows": (
        "A loss that stops rising hides how bad the worst rows are; where the gradient stops too, they never "
        "improve.",
        "Compute log-sum-exp minus the target (F.cross_entropy), never log(probability + eps).",
    ),
    "right way": (
        "A negative temperature or scale turns the loss round, and constructors accept it.",
        "Give a positive temperature.",
    ),
    "state_dict": (
        "What is not in the state dict starts over when a run is resumed, and the loss jumps.",
        "Keep adaptive state in buffers (register_buffer), or save it yourself.",
    ),
    "torch.compile": (
        "A graph break ends fusion and costs a return to Python at every step; with fullgraph=True it "
        "is an error.",
        "Avoid boolean indexing, .item(), nonzero and loops over data in forward.",
    ),
}
