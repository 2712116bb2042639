"""A contract of import-linter that needs no list: what is a connector is seen from its folder."""

from __future__ import annotations

from importlinter import Contract, ContractCheck, fields, output


class ConnectorsApartContract(Contract):
    """Nothing under `container` imports a connector from outside it, so connectors cannot know each other.

    A connector is a package of the container that has a module `connector`; everything else there is shared.
    """

    container = fields.StringField()

    def check(self, graph, verbose):
        container = self.container
        products = {
            name.rpartition(".")[0] for name in graph.find_matching_modules(f"{container}.*.connector")
        }
        found = []
        for product in sorted(products):
            inside = {product} | graph.find_descendants(product)
            for module in sorted(inside):
                found += [
                    (importer, module, graph.get_import_details(importer=importer, imported=module))
                    for importer in sorted(graph.find_modules_that_directly_import(module) - inside)
                    if importer.startswith(f"{container}.")
                ]
        return ContractCheck(kept=not found, metadata={"found": found})

    def render_broken_contract(self, check):
        for importer, imported, details in check.metadata["found"]:
            lines = ", ".join(f"l.{detail['line_number']}" for detail in details)
            output.print_error(f"{importer} -> {imported} ({lines})", bold=False)
            output.print("  What two connectors share goes down to ipaas_resources.net.")
