"""Reads YAML streams as PyYAML does, in Python and through libyaml; in and out as main.go says."""

import json
import sys

import yaml


def with_local_tags(loader):
    """A loader that takes what has a local tag for what it is without, as programs with tags of their own may."""

    class Loader(loader):
        pass

    def untagged(loader, _suffix, node):
        if isinstance(node, yaml.ScalarNode):
            return loader.construct_scalar(node)
        if isinstance(node, yaml.SequenceNode):
            return loader.construct_sequence(node, deep=True)
        return loader.construct_mapping(node, deep=True)

    Loader.add_multi_constructor("!", untagged)
    return Loader


READERS = {"PyYAML": with_local_tags(yaml.SafeLoader)}
if yaml.__with_libyaml__:
    READERS["libyaml"] = with_local_tags(yaml.CSafeLoader)


def text_keys(value):
    """A value of YAML as one that JSON can hold."""
    if isinstance(value, dict):
        return {text_key(key): text_keys(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [text_keys(inner) for inner in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if value is None or isinstance(value, str):
        return value
    return [str(value)]  # Numbers, booleans and times are no text to the programs either.


def text_key(key):
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)


def read(stream, loader):
    documents = []
    try:
        for document in yaml.load_all(stream, loader):
            documents.append(text_keys(document))
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        return {"documents": documents, "error": f"{type(error).__name__}: {error}"}
    return {"documents": documents}


for line in sys.stdin:
    stream = json.loads(line)
    print(json.dumps({name: read(stream, loader) for name, loader in READERS.items()}), flush=True)
