"""The nodes: they turn messages into arrays, call one object, and turn its answer into messages."""
