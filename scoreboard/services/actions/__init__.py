"""An action's life: issued, completed, judged, settled, read."""
