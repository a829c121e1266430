from gallery.shards import ShardData as ShardData
