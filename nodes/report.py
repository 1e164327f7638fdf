"""A report as it is meant to be read, which web/report.js draws."""

from __future__ import annotations

from comfy_api.latest import io

from . import schemas


class ShowReport(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_ShowReport",
            display_name="Show Report",
            category=schemas.MEASURE,
            description="Shows a report or table with its formatting, in both renderings of the "
            "editor.",
            search_aliases=["markdown", "show text", "preview text", "table"],
            is_output_node=True,
            has_intermediate_output=True,
            inputs=[
                io.String.Input(
                    "report",
                    display_name="report",
                    force_input=True,
                    tooltip="A report or table of any node here, or other Markdown.",
                )
            ],
            outputs=[
                io.String.Output("text", display_name="text", tooltip="The same text, passed on.")
            ],
        )

    @classmethod
    def execute(cls, report) -> io.NodeOutput:
        return io.NodeOutput(report, ui={"bfr_report": [report]})
