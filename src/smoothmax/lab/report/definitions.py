"""What the columns and the rules of the verdict mean: the words of the report that no number changes."""

COLUMN_TEXTS = {
    "scale": "The number s that scores are multiplied by before softmax, 1/temperature. Two numbers: after "
    "the first and after the last epoch.",
    "closed": "Share of held-out rows of trained classes that are given to the right class. ± is one "
    "standard deviation between seeds (n − 1), in points.",
    "tar": "True accept rate: of all pairs of rows of one class, both of classes that were never trained, "
    "the share whose cosine lies above the threshold that lets one in a thousand pairs of different classes "
    "through.",
    "rank1": "Share of rows of classes never trained whose nearest other row is of their own class.",
    "final_loss": "Softmax cross-entropy in nats after training, over all training rows, each class counted "
    "alike, margin included.",
    "floor": "The loss that no training of a cosine head can go below at that scale: ln(1 + (n−1) "
    "exp(−s (n/(n−1) − m))) for n classes and margin m. Scores that are no cosines have none above 0.",
    "normalized_gap": "How far the smooth maximum lies above the hard one, −ln p of the largest score, as a "
    "share of ln n, the most it can be. 1: all classes tie. 0: one has it all.",
    "perplexity": "The exponential of softmax's entropy: as if so many classes shared the probability alike.",
    "gradient_mass": "2 s (1 − p of the target), margin included: the sum of the absolute derivatives of the "
    "loss by the scores. Near 0 a row teaches nothing any more.",
    "verdict": "What these numbers say of the smoothness, and the rule that decided. Of several seeds the "
    "verdict that most of them got is shown.",
}

RULE_TEXTS = {
    "F1": "The scale cannot express confidence: even perfectly separated classes stay below the probability "
    "asked for.",
    "F2": "In too many rows more than half of the loss of a near miss is smoothing, which a perfect row pays "
    "as well.",
    "F3": "In too many rows the gap of the smooth maximum exceeds the whole range of the scores.",
    "F4": "The median gap is too large a share of ln n, its largest.",
    "S1": "Too many of the rows that are right have a target probability above 0.999 and teach nothing any "
    "more.",
    "S2": "Too many of the rows that are wrong push against a single competitor, as the hard maximum does.",
    "S3": "The scale is above sqrt(2 d ln n), where a few random classes rule each row from the start.",
    "W": "The scale is above the window's upper end, sqrt(2 d): random directions may start more than 1 nat "
    "over ln n. Worth knowing, no fault: it decides nothing.",
}
