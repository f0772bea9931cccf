"""What the heart does alone, for test_core_alone.py: python -I tests/heart.py FOLDER MODEL TRAIN DEV OUT

FOLDER holds a copy of minibert/core called `heart`. Prints one JSON object, last.
"""

import json
import runpy
import sys
from pathlib import Path

FOLDER, MODEL, TRAIN, DEV, OUT = sys.argv[1:]
TEXTS, PAIRS = ["房间很干净，下次还住", "The room was clean."], ["Très bien", "unaffable [MASK] 😀 1,000"]
READING = ("wordpiece", "tokenizer", "encoding", "attention", "model", "weights", "masking", "data", "train")


class Blocker:
    """Nothing called minibert can be imported, though it is installed."""

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name.partition(".")[0] == "minibert":
            raise ImportError(f"the heart imports {name}")


sys.meta_path.insert(0, Blocker())
sys.path.insert(0, FOLDER)


def main() -> None:
    import torch
    from heart import reference
    from heart.config import BertConfig
    from heart.model import BertForPreTraining, BertForSequenceClassification
    from heart.tokenizer import Tokenizer
    from heart.weights import export_weights

    torch.set_num_threads(1)
    found = {}

    # WordPiece
    tokenizer = Tokenizer.from_pretrained(MODEL)
    encoding = tokenizer(TEXTS, PAIRS, max_length=32)
    inputs = [encoding.input_ids, encoding.attention_mask, encoding.token_type_ids]
    found["inputs"] = [array.tolist() for array in inputs]

    # the model, on a padded batch
    model = BertForPreTraining.from_pretrained(MODEL)
    weights = {name: tensor.detach().numpy() for name, tensor in export_weights(model).items()}
    stages = reference.forward(weights, BertConfig.from_file(Path(MODEL) / "config.json"), *inputs)
    with torch.no_grad():
        logits, sentence = model(*map(torch.from_numpy, inputs))
    real = torch.from_numpy(encoding.attention_mask).bool()
    found["padding"] = int((~real).sum())
    found["distances"] = [
        ((ours - wanted).abs().max() / wanted.abs().max()).item()
        for ours, wanted in (
            (logits[real].double(), torch.from_numpy(stages["mlm"])[real]),
            (sentence.double(), torch.from_numpy(stages["nsp"])),
        )
    ]

    # an epoch, as `python -m heart.train` runs it
    options = {"model": MODEL, "data": TRAIN, "dev": DEV, "out": OUT, "epochs": 1, "batch-size": 8, "lr": 5e-4}
    sys.argv[1:] = [f"--{name}={value}" for name, value in options.items()]
    runpy.run_module("heart.train", run_name="__main__")

    # what it has saved
    trained = BertForSequenceClassification.from_pretrained(OUT)
    encoding = Tokenizer.from_pretrained(OUT)(TEXTS, PAIRS)
    with torch.no_grad():
        arrays = encoding.input_ids, encoding.attention_mask, encoding.token_type_ids
        found["logits"] = trained(*map(torch.from_numpy, arrays)).tolist()

    found["loaded"] = sorted(name for name in sys.modules if name.partition(".")[0] == "minibert")
    files = [Path(FOLDER) / "heart" / f"{name}.py" for name in READING]
    found["lines"] = {file.stem: len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
