"""The dialect of OData services: encoded enum names, and zero values that mean "nothing".

A connector compiles `Converter(schema, ODATA)`, or replaces what its product does otherwise
(`msgspec.structs.replace(ODATA, write_zeros=True)`).
"""

from __future__ import annotations

from ipaas_resources.net.convert import Dialect
from ipaas_resources.net.odata.names import decode_name, encode_name

#: The zero GUID and 0001-01-01 are null (BC reference 1.4); enum members are decoded, choice numbers stay numbers;
#: times carry a zone always, so one without breaks the contract.
ODATA = Dialect(zeros_are_null=True, decode_enum=decode_name, encode_enum=encode_name)
