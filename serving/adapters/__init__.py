"""LoRA adapters: where they are declared, what their files must be, and which model they fit."""
