"""A trained model at work: labels and vectors of texts, scores, files of any size, what stands behind [MASK].

Not here: training (training/), and the numbers inside a forward pass (look/).
Read text_models.py first, then answers.py.
"""

from minibert.lazy import face

FILES = {
    "answers": "Answer activation_of task_of",
    "fill_mask": "fill fills_table",
    "jobs": "embed_file predict_file",
    "options": "EmbedOptions EvaluateOptions FillMaskOptions PredictOptions",
    "scores": "LabelScores RegressionScores Scores score score_labels score_numbers",
    "text_encoder": "TextEncoder",
    "text_models": "TextClassifier classify",
}

__getattr__, __dir__ = face(__name__, FILES)
