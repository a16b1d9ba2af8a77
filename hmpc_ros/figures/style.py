"""Colours and style of all pictures."""

# Okabe and Ito's palette: told apart by everyone, also in print.
BLUE, ORANGE, GREEN, PURPLE = '#0072B2', '#D55E00', '#009E73', '#CC79A7'
INK, MUTED, FAINT, FORBIDDEN = '#222222', '#6B7280', '#E5E7EB', '#F3E8E6'
XYZ = (BLUE, ORANGE, GREEN)
ROTORS = (BLUE, ORANGE, GREEN, PURPLE)

STYLE = {
    'font.family': 'sans-serif',
    'font.size': 9,
    'text.color': INK,
    'axes.edgecolor': MUTED,
    'axes.labelcolor': INK,
    'axes.linewidth': 0.7,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.titlesize': 10,
    'axes.titleweight': 'bold',
    'axes.titlelocation': 'left',
    'axes.titlepad': 8,
    'axes.grid': True,
    'axes.axisbelow': True,
    'grid.color': FAINT,
    'grid.linewidth': 0.7,
    'xtick.color': MUTED,
    'ytick.color': MUTED,
    'xtick.labelcolor': INK,
    'ytick.labelcolor': INK,
    'xtick.major.size': 3,
    'ytick.major.size': 3,
    'lines.linewidth': 1.5,
    'lines.solid_capstyle': 'round',
    'legend.frameon': False,
    'legend.fontsize': 8.5,
    'savefig.dpi': 160,
}
