"""What layers and models are: owners of weights, found through their attributes."""

from __future__ import annotations

from collections.abc import Iterator

from octavo.executor.layers.weights import Slot


class Module:
    """Owns what its attributes own, in their order: modules, and lists of modules."""

    def children(self) -> Iterator[Module]:
        """The modules right below."""
        for value in vars(self).values():
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, Module):
                    yield child

    def slots(self) -> Iterator[Slot]:
        """Every tensor that the loader must fill."""
        for child in self.children():
            yield from child.slots()

    def finish(self) -> None:
        """Bring the filled weights into the form the kernels want; may give the slots' memory back."""
        for child in self.children():
            child.finish()
