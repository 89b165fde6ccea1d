"""What binds the core to a cloud, or to one machine: one folder, one provider."""
