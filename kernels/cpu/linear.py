"""(stub until the product is in) Matrix products on packed weights."""
from octavo.kernels.reference.linear import PackedLinear, linear, pack_linear
from octavo.kernels.reference.linear import embedding as unpack_rows
