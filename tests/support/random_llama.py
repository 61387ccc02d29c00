"""A model for servers that read Hugging Face folders: a Llama of two layers and no weights (the server makes
them up), with a tokenizer of one token for each character of ASCII, so that every token is text.

    python random_llama.py FOLDER
"""

import json
import pathlib
import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)

# As the byte-level alphabet writes them; the last two are the space and the end of a line.
characters = [chr(code) for code in range(33, 127)] + ["Ġ", "Ċ"]
vocabulary = {token: number for number, token in enumerate(["<s>", "</s>", *characters])}
tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
PreTrainedTokenizerFast(
    tokenizer_object=tokenizer,
    bos_token="<s>",
    eos_token="</s>",
    chat_template="{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: ",
).save_pretrained(folder)

config = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": len(vocabulary),
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
    "bos_token_id": vocabulary["<s>"],
    "eos_token_id": vocabulary["</s>"],
    "torch_dtype": "bfloat16",
}
(folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
