"""Run by ``interop_oracles/test_keras.py``, once for each back end, which Keras fixes at import.

For each pickled list of calls on its input it writes a pickled list of results: arrays, or text
where Keras refuses.
"""

import os
import pickle
import sys


def main():
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    results = os.fdopen(os.dup(1), "wb")
    # what packages print must not end among the results
    os.dup2(2, 1)
    import keras

    def function(x, kernel, bias, keywords):
        return keras.ops.conv_transpose(x, kernel, **keywords)

    def layer(x, kernel, bias, keywords):
        made = getattr(keras.layers, f"Conv{x.ndim - 2}DTranspose")(
            kernel.shape[-2], use_bias=bias is not None, **keywords
        )
        made.build(x.shape)
        made.set_weights([kernel] if bias is None else [kernel, bias])
        return made(x)

    def written(x, kernel, bias, keywords):
        made = eval(keywords["call"], {"keras": keras, "filters": kernel.shape[-2]})
        made.build(x.shape)
        made.set_weights([kernel] if bias is None else [kernel, bias])
        return made(x)

    kinds = {"function": function, "layer": layer, "written": written}

    def answer(kind, *arguments):
        try:
            return keras.ops.convert_to_numpy(kinds[kind](*arguments))
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    while True:
        try:
            calls = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump([answer(*call) for call in calls], results)
        results.flush()


if __name__ == "__main__":
    main()
