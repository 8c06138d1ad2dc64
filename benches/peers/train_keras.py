"""The networks of benches/train.rs in Keras on TensorFlow: examples per second of one training step, and of scoring.

Prints one JSON object with the keys of train.py. The step is one compiled function; Adam 1e-3.
"""

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy
import tensorflow


def rate(step, batch, seconds):
    for _ in range(3):
        step()
    best = 0.0
    for _ in range(3):
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds / 3:
            step()
            count += 1
        best = max(best, count * batch / (time.perf_counter() - began))
    return best


def recurrent(kind, hidden, layers):
    cells = [kind(hidden, return_sequences=layer + 1 < layers) for layer in range(layers)]
    head = [keras.layers.Dense(hidden, activation="relu"), keras.layers.Dense(10)]
    return keras.Sequential([keras.layers.Embedding(10_000, 32), *cells, *head])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=9)
    parser.add_argument("--only", default="", help="networks whose names start so")
    options = parser.parse_args()
    tensorflow.config.threading.set_intra_op_parallelism_threads(options.threads)
    keras.utils.set_random_seed(1)
    networks = {
        "lstm 2x128": lambda: recurrent(keras.layers.LSTM, 128, 2),
        "gru 64": lambda: recurrent(keras.layers.GRU, 64, 1),
        "rnn 64": lambda: recurrent(keras.layers.SimpleRNN, 64, 1),
        "dnn 2x256": lambda: keras.Sequential([*(keras.layers.Dense(256, activation="relu") for _ in range(2)), keras.layers.Dense(10)]),
    }
    random = numpy.random.default_rng(1)
    results = {}
    for name, make in networks.items():
        if not name.startswith(options.only):
            continue
        for batch in (32, 256):
            network = make()
            optimizer = keras.optimizers.Adam(1e-3)
            loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            inputs = random.normal(size=(batch, 64)).astype("float32") if name.startswith("dnn") else random.integers(0, 10_000, (batch, 100))
            inputs = tensorflow.constant(inputs)
            labels = tensorflow.constant(random.integers(0, 10, batch))

            @tensorflow.function
            def step():
                with tensorflow.GradientTape() as tape:
                    loss = loss_of(labels, network(inputs, training=True))
                optimizer.apply_gradients(zip(tape.gradient(loss, network.trainable_variables), network.trainable_variables))

            network(inputs)
            optimizer.build(network.trainable_variables)
            results[f"train {name} batch {batch}"] = rate(step, batch, options.seconds)
        score = tensorflow.function(lambda: network(inputs, training=False))
        results[f"score {name} batch 256"] = rate(score, 256, options.seconds)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
