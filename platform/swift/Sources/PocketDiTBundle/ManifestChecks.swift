/// The checks of a manifest: what passes them cannot cause an overflow or an index out of range when an image is drawn.
extension Manifest {
    /// Largest number of elements of a tensor. More would not fit into the memory of any phone.
    static let maxElements = 1 << 28

    /// Throws an error if a value is out of range or if parts of the manifest contradict each other.
    func check() throws {
        try require(noise.generator == PortableNoise.name, "noise.generator", "\(noise.generator) is unknown")
        try requireTensor([3, image.height, image.width], "image")
        try requireTensor([latents.channels, latents.height, latents.width], "latents")
        for (name, package) in packages.sorted(by: { $0.key < $1.key }) {
            try requireInside(package.file, "packages.\(name).file")
            for (key, tensors) in [("inputs", package.inputs), ("outputs", package.outputs)] {
                for (tensor, type) in tensors.sorted(by: { $0.key < $1.key }) {
                    try requireTensor(type.shape, "packages.\(name).\(key).\(tensor).shape")
                }
            }
        }
        try checkShapes()
        try sampling.check()
        try require(!text.encoders.isEmpty, "text.encoders", "has no entry")
        for (position, encoder) in text.encoders.enumerated() {
            try check(encoder, "text.encoders.\(position)")
        }
    }

    private func checkShapes() throws {
        for name in ["text_projection", "transformer"] {
            try require(packages[name] != nil, "packages", "has no entry for \(name)")
        }
        let declared = packages["transformer"]?.inputs["latents"]?.shape ?? []
        try require(
            declared == [declared.first ?? 0, latents.channels, latents.height, latents.width],
            "packages.transformer.inputs.latents", "the shape \(declared) does not match the size of the latents")
        try require(
            packages["transformer"]?.outputs["velocity"]?.shape == declared, "packages.transformer.outputs.velocity",
            "the shape is not that of the latents")
        if let decoder = packages["decoder"] {
            try require(
                decoder.outputs["image"]?.shape == [1, 3, image.height, image.width], "packages.decoder.outputs.image",
                "the shape does not match the size of the image")
        }
    }

    private func check(_ encoder: Encoder, _ key: String) throws {
        try requireTensor([encoder.tokens, encoder.width], key)
        guard let name = encoder.package else { return }
        try require(packages[name] != nil, "packages", "has no entry for \(name)")
        switch encoder.tokenizer {
        case nil:
            try require(false, "\(key).tokenizer", "is missing")
        case .hashedWords(let width), .hashedPhrases(let width):
            try requireTensor([encoder.tokens, width], "\(key).tokenizer.width")
        case .wordPieces(let file, let pieces):
            try requireInside(file, "\(key).tokenizer.file")
            try requireTensor([encoder.tokens, pieces], "\(key).tokenizer.pieces")
        case .clip(let file, let pad):
            try requireInside(file, "\(key).tokenizer.file")
            try require(pad >= 0, "\(key).tokenizer.pad", "\(pad) is negative")
            try require(encoder.tokens >= 2, "\(key).tokens", "\(encoder.tokens) leaves no room for start and end")
        }
    }
}

extension Manifest.Sampling {
    static let maxSteps = 10_000

    /// Returns the sampling times for a number of steps. If the number is nil, these are the times of the bundle.
    func times(steps requested: Int?) throws -> [Double] {
        guard let requested, requested != steps else { return times }
        if fixedSteps {
            throw BundleError.invalidArgument(
                "steps \(requested): the network was distilled to \(steps) steps and only works with this number")
        }
        guard 1...Manifest.Sampling.maxSteps ~= requested else {
            throw BundleError.invalidArgument("steps \(requested): must be from 1 to \(Manifest.Sampling.maxSteps)")
        }
        return uniformTimes(steps: requested, shift: timeShift)
    }

    fileprivate func check() throws {
        try require(1...Manifest.Sampling.maxSteps ~= steps, "sampling.steps", "\(steps) is out of range")
        try require(guidance.isFinite, "sampling.guidance", "is not a finite number")
        try require(timeShift > 0 && timeShift.isFinite, "sampling.time_shift", "must be a positive number")
        let expected = times.count == steps + 1 ? uniformTimes(steps: steps, shift: timeShift) : []
        try require(
            !expected.isEmpty && zip(times, expected).allSatisfy { abs($0 - $1) <= 1e-9 }, "sampling.times",
            "the \(times.count) times do not match \(steps) steps with a time shift of \(timeShift)")
    }
}

private func require(_ condition: Bool, _ key: String, _ problem: @autoclosure () -> String) throws {
    if !condition { throw BundleError.damaged(file: Manifest.file, problem: "\(key): \(problem())") }
}

/// Throws an error if a side of a shape is not positive, or if the tensor would be too large.
private func requireTensor(_ shape: [Int], _ key: String) throws {
    try require(shape.allSatisfy { $0 > 0 }, key, "the size \(shape) is not positive")
    let count = shape.reduce(1) { count, side in
        let (product, overflow) = count.multipliedReportingOverflow(by: side)
        return overflow ? Int.max : product
    }
    try require(count <= Manifest.maxElements, key, "the size \(shape) is too large")
}

/// Throws an error if a file may be outside the bundle.
private func requireInside(_ file: String, _ key: String) throws {
    let parts = file.split(separator: "/", omittingEmptySubsequences: false)
    try require(!file.isEmpty && parts.first != "" && !parts.contains(".."), key, "\(file) is outside the bundle")
}
