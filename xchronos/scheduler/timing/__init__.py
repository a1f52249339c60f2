"""What is due when: the cursors of a unit's triggers, and what becomes of fire times that were missed."""
