queue_LIBS :=
