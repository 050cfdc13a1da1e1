"""The look of every figure."""

BLUE, ORANGE, GREEN = "#1f5fa8", "#d1611b", "#2f7d4f"
STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "grid.color": "0.92",
    "legend.frameon": True,
    "legend.framealpha": 0.8,
    "legend.edgecolor": "none",
    "legend.fontsize": 8,
    "legend.handlelength": 3,  # so that dashes show
    "lines.linewidth": 1.6,
    "pdf.fonttype": 42,
}
