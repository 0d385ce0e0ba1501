"""The nodes: thin rclpy shells around the rooms of plain Python."""
