"""What crosses processes: messages and the structs inside them."""
